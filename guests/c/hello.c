/* A guest in freestanding C: greets, and shows the arguments that it was given.
 *
 * Build it with GCC or Clang and run it, from the root of the repository:
 *
 *     cc -std=c11 -O2 -Wall -Wextra -ffreestanding -fPIE -fno-stack-protector \
 *         -fcf-protection=none -fno-asynchronous-unwind-tables \
 *         -nostdlib -static-pie -Wl,-z,text -Wl,-z,norelro -Wl,-z,noexecstack \
 *         -Wl,--build-id=none -I guest/include -o hello guests/c/hello.c
 *     cellwall run ./hello one two
 *
 * `-static-pie` makes a file that the loader may place anywhere; `-z text` has the linker refuse
 * relocations in code, which the loader would refuse as well. */
#include <cellwall.h>

static size_t length(const char *text) {
    size_t bytes = 0;
    while (text[bytes] != '\0') {
        bytes++;
    }
    return bytes;
}

static int64_t say(const char *text) {
    return cellwall_write_all(CELLWALL_STDOUT, text, length(text));
}

uint64_t _start(const char *args, size_t args_bytes, char *heap, char *heap_end);

uint64_t _start(const char *args, size_t args_bytes, char *heap, char *heap_end) {
    (void)heap;
    (void)heap_end;
    if (say("Hello from a Cellwall guest in C!\n") < 0) {
        return 1;
    }
    for (const char *arg = args; arg < args + args_bytes; arg += length(arg) + 1) {
        if (say("argument: ") < 0 || say(arg) < 0 || say("\n") < 0) {
            return 1;
        }
    }
    return 0;
}
