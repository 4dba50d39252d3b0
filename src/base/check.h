/* Checks, in two of the three tiers that the tree uses (the third, verifiers, walk whole structures).
 *
 * fatal()  stops the process with a message on standard error; for corruption and misuse by the caller.
 * CHECK()  is on in every build; for what must never be passed over in silence.
 * ASSERT() is on in debug builds (MIDDEN_ASSERTS); for what this file's own logic promises.
 *
 * Reporting takes no lock, allocates nothing and may be called anywhere, the stopped world included. */
#ifndef MIDDEN_BASE_CHECK_H
#define MIDDEN_BASE_CHECK_H

#include "base/attr.h"

/* Prints "midden: " and the message, then aborts. */
_Noreturn void fatal(const char *format, ...) PRINTF_LIKE(1, 2) COLD;

/* Prints "midden: " and the message, and goes on. */
void warn(const char *format, ...) PRINTF_LIKE(1, 2) COLD;

/* Who hears the message first, for example to hand it to the program's own abort procedure; NULL for nobody.
 * Called with a complete line without its newline.  Set once, at start. */
extern void (*check_fatal_hook)(const char *message);

#define CHECK(condition, ...)                       \
  do {                                              \
    if (UNLIKELY(!(condition))) fatal(__VA_ARGS__); \
  } while (0)

#ifdef MIDDEN_ASSERTS
#define ASSERT(condition) CHECK(condition, "assertion failed: %s (%s:%d)", #condition, __FILE__, __LINE__)
#else
#define ASSERT(condition) ((void)sizeof(condition))
#endif

#endif
