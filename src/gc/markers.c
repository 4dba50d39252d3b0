#include "gc/markers.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/wait.h"
#include "os/os.h"

enum { SPINS = 100 };

/* The door, one word: while a job is to be had it is open, and it counts the helpers inside.  A helper that comes too late,
 * because the machine had other things to run, finds it shut and nobody waits for it. */
#define DOOR_OPEN UINT32_C(0x80000000)

static NOT_A_ROOT struct {
  uint32_t door;       /* atomic; the release that opens it hands out the job, the acquire of a helper takes it */
  uint32_t generation; /* atomic; counts the jobs; what helpers sleep on */
  unsigned wanted;     /* how many may take part, the caller included */
  void (*job)(void *argument, unsigned marker);
  void *argument;
  bool beside;      /* the program runs meanwhile */
  unsigned started; /* helper threads that exist */
  struct helper {
    uint32_t thread; /* atomic; 0: not yet known */
    struct os_placement placement;
    struct wait_manners manners; /* its own; those of marker 0 are the caller's */
  } helpers[MARKERS_MAX];
} pool CACHE_ALIGNED;

static bool enter(void) {
  uint32_t door = atomic_load_relaxed(&pool.door);
  do {
    if ((door & DOOR_OPEN) == 0) return false;
  } while (!atomic_cas_acq_rel(&pool.door, &door, door + 1));
  return true;
}

static void leave(void) {
  if (atomic_sub_acq_rel(&pool.door, 1u) == 1) wake_all(&pool.door); /* shut, and the last to leave */
}

void markers_give_way(unsigned marker) { wait_give_way(&pool.helpers[marker].manners); }

static void helper(void *argument) {
  unsigned number = (unsigned)(uintptr_t)argument;
  uint32_t seen = 0;
  atomic_store_relaxed(&pool.helpers[number].thread, os_thread_id());
  os_take_short_turns();
  for (;;) {
    uint32_t generation = atomic_load_acquire(&pool.generation);
    if (generation == seen) {
      wait_on_word(&pool.generation, seen);
      continue;
    }
    seen = generation;
    if (!enter()) continue;
    if (number < pool.wanted) pool.job(pool.argument, number);
    bool gives_way = pool.beside;
    leave();
    if (gives_way) markers_give_way(number);
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

static void shut_door(void) {
  atomic_and_relaxed(&pool.door, ~DOOR_OPEN);
  for (unsigned spins = 0;; spins++) {
    uint32_t inside = atomic_load_acquire(&pool.door);
    if (inside == 0) return;
    if (spins < SPINS) {
      atomic_pause();
    } else {
      wait_on_word(&pool.door, inside);
    }
  }
}

/* While the world is stopped each processor is to have one marker: on this one a helper would take the caller's place.  Beside
 * the program the scheduler knows better which processors have nothing to do. */
static void place_helpers(unsigned count) {
  for (unsigned i = 1; i < count; i++) {
    struct helper *helper = &pool.helpers[i];
    uint32_t thread = atomic_load_relaxed(&helper->thread);
    if (thread == 0) continue;
    if (pool.beside) {
      os_place_anywhere(thread, &helper->placement);
    } else {
      os_place_elsewhere(thread, &helper->placement);
    }
  }
}

static void run(unsigned count, void (*job)(void *argument, unsigned marker), void *argument, bool beside) {
  if (count <= 1) {
    job(argument, 0);
    return;
  }
  pool.job = job;
  pool.argument = argument;
  pool.beside = beside;
  pool.wanted = count;
  place_helpers(count);
  atomic_store_release(&pool.door, DOOR_OPEN);
  atomic_add_acq_rel(&pool.generation, 1u);
  wake_all(&pool.generation);
  job(argument, 0);
  shut_door();
}

void markers_run(unsigned count, void (*job)(void *argument, unsigned marker), void *argument) {
  run(count, job, argument, false);
}

void markers_run_beside(unsigned count, void (*job)(void *argument, unsigned marker), void *argument) {
  run(count, job, argument, true);
}

void markers_forget(void) {
  for (unsigned i = 1; i <= pool.started; i++) pool.helpers[i] = (struct helper){0};
  pool.started = 0;
  pool.door = 0;
  pool.generation = 0;
}
