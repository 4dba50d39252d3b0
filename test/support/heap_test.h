/* What the collector's own tests share: a seed, a random number generator, a check that works in any thread and any
 * child, children whose end and messages are examined, and the art of forgetting a pointer.
 *
 * Environment: MIDDEN_TEST_SEED repeats a run, MIDDEN_TEST_STEPS sets its length (soak runs give millions).
 *
 * Forgetting.  The collector reads stacks and registers conservatively, so a test that expects an object to die must
 * leave no copy of its address behind: it handles addresses only inside functions marked NOINLINE_TEST, keeps them
 * disguised (test_hide) in memory from malloc, which the collector does not read, and collects through
 * test_collect_clean, which overwrites the dead part of the stack first. */
#ifndef MIDDEN_TEST_SUPPORT_HEAP_TEST_H
#define MIDDEN_TEST_SUPPORT_HEAP_TEST_H

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "midden/midden.h"

#define NOINLINE_TEST __attribute__((noinline))
#define TEST_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ctest's number for a test that has nothing to test here. */
enum { TEST_SKIPPED = 77 };

/* ---- failing ---- */

/* The seed of this run; 0 until test_start. */
static uint64_t test_seed_value;

__attribute__((format(printf, 4, 5), noreturn, cold, unused)) static void test_fail(const char *file, int line,
                                                                                    const char *condition,
                                                                                    const char *format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  dprintf(STDERR_FILENO, "FAILED %s:%d: %s: %s (MIDDEN_TEST_SEED=%" PRIu64 ")\n", file, line, condition, message,
          test_seed_value);
  abort();
}

/* Stops the whole process: cmocka's own assertions only work in the thread and process that runs the test. */
#define REQUIRE(condition, ...)                                               \
  do {                                                                        \
    if (!(condition)) test_fail(__FILE__, __LINE__, #condition, __VA_ARGS__); \
  } while (0)

/* However often the collector's signal comes. */
static inline void test_sleep_ms(long ms) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&left, &left) != 0) continue;
}

/* ---- random numbers ---- */

struct rng {
  uint64_t state;
};

/* Splitmix: each call one step of a Weyl sequence, then mixed. */
static inline uint64_t test_mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

static inline uint64_t rng_next(struct rng *rng) { return test_mix(rng->state += 0x9e3779b97f4a7c15u); }
static inline size_t rng_below(struct rng *rng, size_t bound) { return (size_t)(rng_next(rng) % bound); }
static inline bool rng_one_in(struct rng *rng, size_t n) { return rng_below(rng, n) == 0; }

/* A size up to `limit`, every power of two as likely as the next. */
static inline size_t rng_size(struct rng *rng, size_t limit) {
  size_t bound = (size_t)1 << (1 + rng_below(rng, 64 - (size_t)__builtin_clzll(limit)));
  size_t size = 1 + rng_below(rng, bound);
  return size < limit ? size : limit;
}

/* ---- start ---- */

static inline uint64_t test_environment_number(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text != NULL && *text != 0 ? strtoull(text, NULL, 0) : otherwise;
}

/* Fixes the seed and prints it: a failure can be repeated from the log. */
static inline struct rng test_start(const char *name) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t chosen = test_mix((uint64_t)now.tv_nsec ^ ((uint64_t)now.tv_sec << 20) ^ (uint64_t)getpid()) >> 32;
  test_seed_value = test_environment_number("MIDDEN_TEST_SEED", chosen);
  printf("%s: MIDDEN_TEST_SEED=%" PRIu64 "\n", name, test_seed_value);
  fflush(stdout);
  return (struct rng){test_seed_value};
}

static inline size_t test_steps(size_t otherwise) {
  return (size_t)test_environment_number("MIDDEN_TEST_STEPS", otherwise);
}

/* ---- forgetting ---- */

/* No heap address survives the complement as something that could be one. */
static inline uintptr_t test_hide(const void *pointer) { return ~(uintptr_t)pointer; }
static inline void *test_unhide(uintptr_t hidden) { return (void *)~hidden; }

enum { TEST_SCRUB_BYTES = 96 << 10 };

/* Overwrites the part of the stack that calls made from here have used.  Not instrumented: the address sanitizer would
 * keep space around the array that stays as it was. */
NOINLINE_TEST __attribute__((unused, no_sanitize("address"))) static void test_scrub_stack(void) {
  volatile char dead[TEST_SCRUB_BYTES];
  for (size_t i = 0; i < sizeof(dead); i++) dead[i] = 0;
  /* What was copied last is in vector registers, which copies of all sizes go through. */
  for (size_t bytes = 8; bytes <= sizeof(dead) / 2; bytes *= 2)
    memmove((char *)dead + sizeof(dead) / 2, (const char *)dead, bytes);
}

/* All tests of a group.  Frames of the test library come to lie where starting the library has left words, which would keep what
 * they name. */
#define test_run_group(tests) (test_scrub_stack(), cmocka_run_group_tests(tests, NULL, NULL))

/* One test of a group, whose own frame comes to lie where those before it have left words. */
__attribute__((unused)) static int test_scrub_first(void **state) {
  (void)state;
  test_scrub_stack();
  return 0;
}
#define test_scrubbed(test) cmocka_unit_test_setup(test, test_scrub_first)

/* In the caller's frame: one of its own would begin, with clang, with a word that is whatever rax was left at, and that may
 * be the last object allocated. */
__attribute__((unused, always_inline)) static inline void test_collect_clean(void) {
  test_scrub_stack();
  midden_collect();
}

static inline struct midden_stats test_stats(void) {
  struct midden_stats stats = {.size = sizeof(stats)};
  midden_stats(&stats);
  return stats;
}

/* ---- children ---- */

struct test_outcome {
  int status;         /* as from waitpid */
  char message[8192]; /* what the child wrote to standard error, ended by a NUL, cut where it does not fit */
};

static inline void test_read_all(int descriptor, char *text, size_t bytes) {
  size_t length = 0;
  char surplus[512];
  for (;;) {
    bool full = length + 1 == bytes;
    ssize_t got = read(descriptor, full ? surplus : text + length, full ? sizeof(surplus) : bytes - 1 - length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (!full) length += (size_t)got;
  }
  text[length] = 0;
}

/* gcc's address sanitizer forks with its allocator's locks as they are.  Another thread may hold one, which allocates from malloc, or begins
 * or ends: then the child can neither allocate from malloc nor start a thread, as its first collection does, and waits for ever. */
#if defined(__SANITIZE_ADDRESS__)
enum { TEST_CHILD_MAY_COLLECT = false };
#else
enum { TEST_CHILD_MAY_COLLECT = true };
#endif

/* Runs `run(argument)` in a child and hears how it ends; the child exits with what `run` returns.  A child that hangs
 * dies of SIGALRM after `seconds`. */
__attribute__((unused)) static struct test_outcome test_child(int (*run)(void *argument), void *argument,
                                                              unsigned seconds) {
  struct test_outcome outcome;
  int ends[2];
  REQUIRE(pipe(ends) == 0, "pipe: %s", strerror(errno));
  fflush(NULL);
  pid_t child = fork();
  REQUIRE(child >= 0, "fork: %s", strerror(errno));
  if (child == 0) {
    signal(SIGALRM, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    alarm(seconds);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    _exit(run(argument));
  }
  close(ends[1]);
  test_read_all(ends[0], outcome.message, sizeof(outcome.message));
  close(ends[0]);
  while (waitpid(child, &outcome.status, 0) < 0) REQUIRE(errno == EINTR, "waitpid: %s", strerror(errno));
  return outcome;
}

/* The same for a child that must exit with 0. */
__attribute__((unused)) static void test_child_succeeds(const char *what, int (*run)(void *argument), void *argument,
                                                        unsigned seconds) {
  struct test_outcome outcome = test_child(run, argument, seconds);
  REQUIRE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0, "%s: status 0x%x: %s", what,
          (unsigned)outcome.status, outcome.message);
}

/* A process has one mode for good: `test` starts a child in it.  Dirty pages last, which not every system can tell. */
__attribute__((unused)) static void test_in_each_mode(void (*test)(enum midden_mode mode)) {
  test(MIDDEN_MODE_STW);
  test(MIDDEN_MODE_BARRIER);
  test(MIDDEN_MODE_DIRTY);
}

#endif
