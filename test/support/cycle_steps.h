/* A cycle beside the program, of barrier mode as a rule, on a forced schedule: the collector's thread waits at a step of it
 * while the test acts.
 *
 *     cycle_begin(&cycle.read);       returns when a cycle is at that step
 *     ...                             what the program does there
 *     cycle_go_on(&cycle.read);
 *     cycle_end();
 *
 * And the object that such a test is about: nothing but the library keeps it, if it does what it should.
 *
 * Linked with --wrap=roots_learn,--wrap=roots_visit_running (cmake/tests.cmake). */
#ifndef MIDDEN_TEST_SUPPORT_CYCLE_STEPS_H
#define MIDDEN_TEST_SUPPORT_CYCLE_STEPS_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>

#include "gc/collector.h"
#include "midden/barrier.h"
#include "mutator/roots.h"
#include "support/heap_test.h"

struct cycle_step {
  bool waits;       /* in the next cycle */
  long patience_ms; /* then it goes on all the same; 0: never */
  sem_t reached, goes_on;
};

static struct {
  struct cycle_step armed;   /* all stores are told of; no stack is scanned */
  struct cycle_step scanned; /* all stacks are; roots are not read, nor is the heap */
  struct cycle_step read;    /* the roots are; the heap is not */
  bool gives_up;             /* the next cycle, there: as if there were no memory to learn them all */
  bool is_minor;             /* cycles may be, as those for growth */
  bool is_over;              /* atomic */
  sem_t over;
  pthread_t thread;
} cycle;

static inline void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
}

/* ---- the collector's side ---- */

static inline void cycle_await_for(sem_t *semaphore, long ms) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  long ns = end.tv_nsec + ms % 1000 * 1000000;
  end.tv_sec += ms / 1000 + ns / 1000000000;
  end.tv_nsec = ns % 1000000000;
  while (sem_timedwait(semaphore, &end) != 0 && errno == EINTR) continue;
}

static inline void cycle_wait_at(struct cycle_step *step) {
  if (!step->waits) return;
  step->waits = false;
  sem_post(&step->reached);
  if (step->patience_ms != 0) {
    cycle_await_for(&step->goes_on, step->patience_ms);
  } else {
    await(&step->goes_on);
  }
}

bool __real_roots_learn(struct mutator *self);
bool __wrap_roots_learn(struct mutator *self);
bool __real_roots_visit_running(struct mutator *self, roots_visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, roots_visit_fn *visit, void *argument);

bool __wrap_roots_learn(struct mutator *self) {
  bool learned = __real_roots_learn(self);
  cycle_wait_at(&cycle.armed);
  return learned;
}

bool __wrap_roots_visit_running(struct mutator *self, roots_visit_fn *visit, void *argument) {
  cycle_wait_at(&cycle.scanned);
  bool all = __real_roots_visit_running(self, visit, argument);
  cycle_wait_at(&cycle.read);
  if (!cycle.gives_up) return all;
  cycle.gives_up = false;
  return false;
}

static inline void *cycle_collect(void *unused) {
  if (cycle.is_minor) {
    collector_collect(COLLECT_STRESS, NULL, NULL);
  } else {
    midden_collect();
  }
  __atomic_store_n(&cycle.is_over, true, __ATOMIC_RELEASE);
  sem_post(&cycle.over);
  return unused;
}

/* ---- the program's side ---- */

static inline void cycle_step_init(struct cycle_step *step) {
  sem_init(&step->reached, 0, 0);
  sem_init(&step->goes_on, 0, 0);
}

/* Before anything else: the library starts. */
static inline void cycle_init_with(const struct midden_options *options) {
  REQUIRE(midden_init(options) == 0, "midden_init");
  struct cycle_step *steps[] = {&cycle.armed, &cycle.scanned, &cycle.read};
  for (size_t i = 0; i < TEST_COUNT_OF(steps); i++) cycle_step_init(steps[i]);
  sem_init(&cycle.over, 0, 0);
}

static inline void cycle_init(void) {
  cycle_init_with(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
}

/* Dirty-page mode, in which no cycle is due by itself: one that came late, on a busy machine, would be in the test's way.  And all
 * run beside the program, however small the heap. */
static inline void cycle_init_dirty(enum midden_generations generations, unsigned debug) {
  cycle_init_with(&(struct midden_options){.size = sizeof(struct midden_options),
                                           .mode = MIDDEN_MODE_DIRTY,
                                           .generations = generations,
                                           .debug = debug,
                                           .initial_heap_bytes = (size_t)1 << 30,
                                           .percent = 10000,
                                           .idle_collect_ms = -1,
                                           .brief_stop_us = -1});
}

static inline void cycle_begin(struct cycle_step *step) {
  while (sem_trywait(&step->goes_on) == 0) continue; /* of a cycle that had gone on all the same */
  step->waits = true;
  cycle.is_over = false;
  REQUIRE(pthread_create(&cycle.thread, NULL, cycle_collect, NULL) == 0, "pthread_create");
  await(&step->reached);
}

static inline void cycle_go_on(struct cycle_step *step) { sem_post(&step->goes_on); }

static inline void cycle_end(void) {
  await(&cycle.over);
  pthread_join(cycle.thread, NULL);
}

/* The calling thread is not scanned while they are blocked, unless it looks by itself. */
static inline void block_handshakes(bool block) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, midden_suspend_signal());
  pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* Returns when the calling thread was scanned in the cycle under way. */
static inline void await_own_scan(void) {
  while (!cache_is_black(&mutator_self()->cache)) {
    midden_blocking_enter();
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    midden_blocking_leave();
  }
}

/* ---- what the test is about ---- */

/* An object, and another that nobody holds: where that one lives on, nothing was collected. */
static struct midden_weak *watched, *dropped;

NOINLINE_TEST __attribute__((unused)) static void watch(void *object) {
  REQUIRE(object != NULL, "out of memory");
  midden_store(&watched, midden_weak_new(object));
  midden_store(&dropped, midden_weak_new(midden_alloc(64)));
}

NOINLINE_TEST __attribute__((unused)) static bool is_kept(uintptr_t hidden) {
  return test_hide(midden_weak_get(watched)) == hidden;
}

NOINLINE_TEST __attribute__((unused)) static bool is_dropped_gone(void) { return midden_weak_get(dropped) == NULL; }

#endif
