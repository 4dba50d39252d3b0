/* A workload: a name, its parameters, and the function that runs it.
 *
 * The worker fills the parameters from "name=value" on its command line before it calls `run`; a name that the workload
 * does not have is refused.  Numbers may end in K, M or G (1024 and its powers).  Every workload also has "markers",
 * "heap", "mode" and "events", which struct engine_setup explains. */
#ifndef BENCH_WORKER_WORKLOAD_H
#define BENCH_WORKER_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct parameter {
  const char *name;
  const char *value; /* the default until the command line is read */
};

struct workload {
  const char *name;
  const char *about;
  struct parameter parameters[12]; /* up to the first without a name */
  bool collector_only;             /* makes no sense without a collector */
  void (*run)(struct workload *self);
};

/* The value of a parameter.  A text that is no number in [low, high] ends the process with a message, so does a parameter
 * that the workload never declared. */
const char *workload_text(const struct workload *workload, const char *name);
long workload_number(const struct workload *workload, const char *name, long low, long high);

/* True for the first, false for the second; anything else ends the process with a message. */
bool workload_choice(const struct workload *workload, const char *name, const char *yes, const char *no);

enum { WORKLOAD_THREADS_MAX = 64 };

/* Runs `work` once on each of `threads` threads with its index, and waits for all.  One thread is the calling one. */
void workload_parallel(int threads, void (*work)(int index));

/* Ends the process with a message: the engine lost or damaged data. */
_Noreturn void workload_fail(const char *what);

/* The exit status that says that the workload makes no sense here. */
enum { WORKLOAD_NOT_APPLICABLE = 3 };

/* Ends the process with that, and a message, where less than `bytes` of memory are available. */
void workload_need_memory(size_t bytes);

/* A xorshift generator; *state is never 0. */
static inline uint64_t workload_random(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

#endif
