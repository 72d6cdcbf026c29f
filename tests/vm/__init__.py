"""Tests in a booted Linux: a real kernel, real privilege and QEMU's real backdoor device, under TCG (no KVM needed)."""
