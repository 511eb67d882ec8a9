/* The one function that Rust's standard library wants of bcryptprimitives.dll, which wine 8 does not have. */
int __stdcall SystemFunction036(void *bytes, unsigned long count);  /* RtlGenRandom, in advapi32.dll */

__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *bytes, unsigned long long count) {
    const unsigned long long most = 1ul << 30;
    for (; count > most; bytes += most, count -= most)
        if (!SystemFunction036(bytes, (unsigned long) most)) return 0;
    return SystemFunction036(bytes, (unsigned long) count);
}
