/* What a guest in freestanding C needs: hostcalls, handles, entry. Nothing here has to be linked.
 *
 * A guest is a static-PIE for x86-64. The worker enters it at `_start`, as if it were called:
 *
 *     uint64_t _start(const char *args, size_t args_bytes, char *heap, char *heap_end);
 *
 * `args` are NUL-terminated strings, one after the other, `args_bytes` in all, without a program
 * name. From `heap` to `heap_end` there is zeroed memory, whole pages of it. Returning from
 * `_start` finishes the guest, as `cellwall_finish` does; `cellwall run` takes the value as the
 * exit status, and one above 255 as 255.
 *
 * The compiler may call memcpy, memmove, memset and memcmp of its own accord: define what the
 * linker misses. See guests/c/hello.c for a whole guest and the command that builds it. */
#ifndef CELLWALL_H
#define CELLWALL_H

#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__)
#error "Cellwall runs x86-64 guests"
#endif

/* Called to make a hostcall. */
#define CELLWALL_HOSTCALL_ADDRESS 0x140000000u
/* Jumped to, with the value in rax, to finish. */
#define CELLWALL_FINISH_ADDRESS 0x140000100u

/* The hostcalls of `cellwall run`. A machine of its own has hostcalls of its own. */
enum {
    CELLWALL_READ = 1,  /* handle, address, length: bytes read, 0 at the end */
    CELLWALL_WRITE = 2, /* handle, address, length: bytes written */
    CELLWALL_LOG = 3,   /* address, length: a line of UTF-8 for the host's log */
    CELLWALL_PANIC = 4, /* address, length: last words */
};

/* What the host opened beforehand. */
enum {
    CELLWALL_STDIN = 0,
    CELLWALL_STDOUT = 1,
    CELLWALL_STDERR = 2,
};

/* The status of a guest that panicked. */
#define CELLWALL_PANIC_STATUS 101

/* The most bytes that one read or write moves; a longer one is cut. */
#define CELLWALL_TRANSFER_BYTES_MAX (2u << 20)

/* Makes a hostcall. The answer is the host's; those above have -4095 to -1 for an errno.
 * All registers but rax, rcx and r11 are kept. The stack is moved first: the trampoline uses what
 * is below the stack pointer, where the compiler may keep variables. */
static inline int64_t cellwall_hostcall(uint32_t number, uint64_t a, uint64_t b, uint64_t c,
                                        uint64_t d, uint64_t e, uint64_t f) {
    uint64_t answer = number;
    register uint64_t fifth __asm__("r8") = e;
    register uint64_t sixth __asm__("r9") = f;
    register uint64_t target __asm__("r11") = CELLWALL_HOSTCALL_ADDRESS;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "call *%%r11\n\t"
                     "lea 128(%%rsp), %%rsp"
                     : "+a"(answer), "+c"(d), "+r"(target)
                     : "D"(a), "S"(b), "d"(c), "r"(fifth), "r"(sixth)
                     : "memory", "cc");
    return (int64_t)answer;
}

/* Finishes the guest with this value. */
static inline __attribute__((noreturn)) void cellwall_finish(uint64_t value) {
    register uint64_t target __asm__("r11") = CELLWALL_FINISH_ADDRESS;
    __asm__ volatile("jmp *%%r11" : : "a"(value), "r"(target) : "memory");
    __builtin_unreachable();
}

/* Reads at most `bytes` bytes: how many, 0 at the end, or a negated errno. */
static inline int64_t cellwall_read(uint64_t handle, void *to, size_t bytes) {
    return cellwall_hostcall(CELLWALL_READ, handle, (uint64_t)(uintptr_t)to, bytes, 0, 0, 0);
}

/* Writes at most `bytes` bytes: how many, or a negated errno. */
static inline int64_t cellwall_write(uint64_t handle, const void *from, size_t bytes) {
    return cellwall_hostcall(CELLWALL_WRITE, handle, (uint64_t)(uintptr_t)from, bytes, 0, 0, 0);
}

/* Writes all bytes: 0, or a negated errno. */
static inline int64_t cellwall_write_all(uint64_t handle, const void *from, size_t bytes) {
    const char *at = (const char *)from;
    while (bytes > 0) {
        int64_t written = cellwall_write(handle, at, bytes);
        if (written <= 0) {
            return written < 0 ? written : -5; /* EIO: no byte, and no reason */
        }
        at += written;
        bytes -= (size_t)written;
    }
    return 0;
}

/* Gives the host's log a line. */
static inline void cellwall_log(const char *line, size_t bytes) {
    cellwall_hostcall(CELLWALL_LOG, (uint64_t)(uintptr_t)line, bytes, 0, 0, 0, 0);
}

/* Gives up with this message. */
static inline __attribute__((noreturn)) void cellwall_panic(const char *message, size_t bytes) {
    cellwall_hostcall(CELLWALL_PANIC, (uint64_t)(uintptr_t)message, bytes, 0, 0, 0, 0);
    cellwall_finish(CELLWALL_PANIC_STATUS);
}

#endif
