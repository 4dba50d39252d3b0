/* Compiler attributes, in one place so that every other file can stay plain C11. */
#ifndef MIDDEN_BASE_ATTR_H
#define MIDDEN_BASE_ATTR_H

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COLD __attribute__((cold, noinline))
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define PRINTF_LIKE(string, first) __attribute__((format(printf, string, first)))
#define CACHE_LINE_BYTES 64
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE_BYTES)))

/* A short function that programs call all the time: it begins with a cache line, and spans no more of them than it must.  Where
 * the linker happened to put it, the cost of allocation varied by a tenth. */
#define HOT_ENTRY __attribute__((aligned(CACHE_LINE_BYTES)))

/* Thread-local variables are reached by a fixed offset from the thread pointer: the allocation path reads one on each
 * call.  The library's few bytes fit the space that loaders keep for libraries opened later by dlopen. */
#define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

/* For variables that hold addresses of objects, or what looks like them, without being roots, and for large ones: where the
 * library is linked into the program its data would otherwise be scanned with the program's.  Between the two symbols lie all
 * of them. */
#define NOT_A_ROOT __attribute__((section("midden_private")))
extern char attr_not_a_root_start[] __asm__("__start_midden_private") __attribute__((visibility("hidden")));
extern char attr_not_a_root_end[] __asm__("__stop_midden_private") __attribute__((visibility("hidden")));

/* Where the frame of the function that asks ends, and its caller's begins: what it has saved of its caller's registers lies below.
 * The address of a frame does not tell: on aarch64 they are saved above that. */
#if defined(__clang__) && defined(__aarch64__)
#define FRAME_END() ((uintptr_t)__builtin_sponentry())
#else
#define FRAME_END() ((uintptr_t)__builtin_dwarf_cfa())
#endif

/* A function that reads other threads' stacks word by word, which the sanitizers must not judge. */
#if defined(__clang__)
/* clang's no_sanitize("thread") leaves atomics instrumented, which deadlocks in a signal handler. */
#define NO_SANITIZE __attribute__((no_sanitize("address", "thread", "undefined"), disable_sanitizer_instrumentation))
#else
#define NO_SANITIZE __attribute__((no_sanitize("address", "thread", "undefined")))
#endif

/* A function that reads objects as the collector does: whole slots, of which the memory checkers are told that nobody
 * may touch them (base/memcheck.h). */
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define READS_SLOTS __attribute__((no_sanitize("memory")))
#endif
#endif
#if !defined(READS_SLOTS)
#define READS_SLOTS __attribute__((no_sanitize("address")))
#endif

/* Whether this build is instrumented by the thread sanitizer. */
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#if !defined(THREAD_SANITIZER)
#define THREAD_SANITIZER 0
#endif

#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
