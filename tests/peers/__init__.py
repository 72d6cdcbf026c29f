"""Other people's programs: open-vm-tools' commands and cloud-init, unmodified, beside ours."""
