/* The one function that Rust's std takes from bcryptprimitives.dll, which wine 8 lacks: random bytes. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PUCHAR bytes, SIZE_T count)
{
    return RtlGenRandom(bytes, (ULONG)count);
}
