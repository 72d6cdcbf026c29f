/* For open-vm-tools on KVM and Xen only: its commands compare CPUID's signature with these two by strcmp and refuse to
 * run where it is equal. Preloaded, this strcmp finds nothing equal to either; everything else it compares as ever.
 */
static int begins(const char *text, const char *name)
{
    while (*name && *text == *name)
        text++, name++;
    return !*name;
}

int strcmp(const char *left, const char *right)
{
    if (begins(left, "KVMKVMKVM") || begins(right, "KVMKVMKVM"))
        return 1;
    if (begins(left, "XenVMMXenVMM") || begins(right, "XenVMMXenVMM"))
        return 1;
    while (*left && *left == *right)
        left++, right++;
    return (unsigned char)*left - (unsigned char)*right;
}
