#include "gc/markers.h"

#include <stdint.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/wait.h"
#include "os/os.h"

enum { SPINS = 100 };

static struct {
  uint32_t generation; /* atomic; the release of a step hands out the job, the acquire takes it */
  uint32_t running;    /* atomic; helpers that have not finished the job */
  unsigned wanted;     /* how many take part, the caller included */
  void (*job)(void *argument, unsigned marker);
  void *argument;
  unsigned started; /* helper threads that exist */
} pool CACHE_ALIGNED;

static void helper(void *argument) {
  unsigned number = (unsigned)(uintptr_t)argument;
  /* It may start late, the first job long under way: counted in, since `started` covers it. */
  uint32_t seen = 0;
  for (;;) {
    uint32_t generation = atomic_load_acquire(&pool.generation);
    if (generation == seen) {
      wait_on_word(&pool.generation, seen);
      continue;
    }
    seen = generation;
    if (number >= pool.wanted) continue;
    pool.job(pool.argument, number);
    if (atomic_sub_acq_rel(&pool.running, 1u) == 1) wake_all(&pool.running);
  }
}

unsigned markers_prepare(unsigned count) {
  while (pool.started + 1 < count && pool.started + 1 < MARKERS_MAX) {
    char name[16];
    unsigned number = pool.started + 1;
    snprintf(name, sizeof name, "midden-mark-%u", number);
    if (os_start_thread(helper, (void *)(uintptr_t)number, name) != 0) break;
    pool.started++;
  }
  return pool.started + 1 < count ? pool.started + 1 : count;
}

static void await_helpers(void) {
  for (unsigned spins = 0;; spins++) {
    uint32_t running = atomic_load_acquire(&pool.running);
    if (running == 0) return;
    if (spins < SPINS) {
      atomic_pause();
    } else {
      wait_on_word(&pool.running, running);
    }
  }
}

void markers_run(unsigned count, void (*job)(void *argument, unsigned marker), void *argument) {
  pool.job = job;
  pool.argument = argument;
  pool.wanted = count;
  if (count > 1) {
    atomic_store_relaxed(&pool.running, count - 1);
    atomic_add_acq_rel(&pool.generation, 1u);
    wake_all(&pool.generation);
  }
  job(argument, 0);
  await_helpers();
}

void markers_forget(void) {
  pool.started = 0;
  pool.running = 0;
  pool.generation = 0;
}
