/* Words that threads read without a lock while others write them, one after the other and with no order between: for the thread
 * sanitizer, which reports where one of the two is not atomic.  Without it this shows that nothing else goes wrong. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "alloc/large.h"
#include "gc/collector.h"
#include "midden/barrier.h"
#include "mutator/handshake.h"
#include "mutator/roots.h"
#include "support/heap_test.h"

enum { WHILE_MS = 50, LARGE_BYTES = 1 << 20, FAR_BYTES = 900 << 10 };

/* The sanitizer sees no order in it. */
static void linger(int ms) {
  nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* ---- whether a span has specials ---- */

static struct {
  void *watched, *freed;
  pthread_barrier_t begin, end;
} pair;

static void no_finalizer(void *object, void *argument) { (void)object, (void)argument; }

static void *set_finalizer(void *unused) {
  midden_thread_attach();
  pthread_barrier_wait(&pair.begin);
  midden_finalizer_set(pair.watched, no_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
  pthread_barrier_wait(&pair.end);
  return unused;
}

static void *free_neighbour(void *unused) {
  midden_thread_attach();
  pthread_barrier_wait(&pair.begin);
  linger(WHILE_MS);
  midden_free(pair.freed);
  pthread_barrier_wait(&pair.end);
  return unused;
}

static void an_object_is_freed_beside_the_first_special_of_its_span(void **state) {
  (void)state;
  pthread_t threads[2];
  pthread_barrier_init(&pair.begin, NULL, 2);
  pthread_barrier_init(&pair.end, NULL, 2);
  midden_store(&pair.watched, midden_alloc(208));
  midden_store(&pair.freed, midden_alloc(208));
  REQUIRE(pthread_create(&threads[0], NULL, set_finalizer, NULL) == 0, "pthread_create");
  REQUIRE(pthread_create(&threads[1], NULL, free_neighbour, NULL) == 0, "pthread_create");
  midden_blocking_enter();
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  midden_blocking_leave();
}

/* ---- an address far inside a new large object ---- */

static struct {
  bool waits; /* behind the next marking of the roots */
  sem_t begun, over;
} plan;

typedef void visit_fn(void *argument, struct os_range range);
bool __real_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);

bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument) {
  bool all = __real_roots_visit_running(self, visit, argument);
  if (plan.waits) {
    plan.waits = false;
    sem_post(&plan.begun);
    linger(4 * WHILE_MS);
  }
  return all;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&plan.over);
  return NULL;
}

static void await(sem_t *semaphore) {
  midden_blocking_enter();
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
  midden_blocking_leave();
}

static void **holder;

static void a_marker_meets_it(void **state) {
  (void)state;
  pthread_t thread;
  midden_store(&holder, midden_alloc(64));
  plan.waits = true;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  await(&plan.begun);
  char *large = midden_alloc(LARGE_BYTES);
  REQUIRE(large != NULL, "out of memory");
  midden_store(&holder[0], large + FAR_BYTES);
  await(&plan.over);
  midden_blocking_enter();
  pthread_join(thread, NULL);
  midden_blocking_leave();
  assert_true(midden_owns(holder[0]));
}

/* ---- a large object that is marked before it is cleared ---- */

static struct {
  int rounds_left; /* of handshakes, to the one that waits */
  bool waits;      /* in the next allocation of a large object */
  sem_t inside, over;
} clearing;

void __real_handshake_run(struct mutator *self, handshake_fn *action, handshake_test_fn *needless);
void __wrap_handshake_run(struct mutator *self, handshake_fn *action, handshake_test_fn *needless);
bool __real_large_alloc(struct cache *cache, unsigned kind, size_t bytes, size_t alignment, struct large *large);
bool __wrap_large_alloc(struct cache *cache, unsigned kind, size_t bytes, size_t alignment, struct large *large);

/* The round that scans the stacks begins when the thread is in the critical section that makes its object. */
void __wrap_handshake_run(struct mutator *self, handshake_fn *action, handshake_test_fn *needless) {
  if (clearing.rounds_left != 0 && --clearing.rounds_left == 0) {
    while (sem_wait(&clearing.inside) != 0) continue;
  }
  __real_handshake_run(self, action, needless);
}

bool __wrap_large_alloc(struct cache *cache, unsigned kind, size_t bytes, size_t alignment, struct large *large) {
  if (clearing.waits) {
    clearing.waits = false;
    sem_post(&clearing.inside);
    while (!atomic_load_relaxed(&mutator_self()->stop_pending)) linger(1);
  }
  return __real_large_alloc(cache, kind, bytes, alignment, large);
}

static void *collect_to_clear(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&clearing.over);
  return NULL;
}

/* By the handshake that comes as it is made it is on the stack alone, and grey. */
static void a_marker_reads_what_is_cleared(void **state) {
  (void)state;
  pthread_t thread;
  char *old = midden_alloc(LARGE_BYTES);
  memset(old, 'x', LARGE_BYTES);
  midden_free(old);
  clearing.rounds_left = 3; /* ARM, ARM, SCAN */
  REQUIRE(pthread_create(&thread, NULL, collect_to_clear, NULL) == 0, "pthread_create");
  while (collector_phase() != COLLECTOR_SCAN) {
    midden_blocking_enter();
    linger(1);
    midden_blocking_leave();
  }
  clearing.waits = true;
  char *large = midden_alloc(LARGE_BYTES);
  linger(4 * WHILE_MS);
  for (size_t i = 0; i < LARGE_BYTES; i++) REQUIRE(large[i] == 0, "not cleared");
  await(&clearing.over);
  midden_blocking_enter();
  pthread_join(thread, NULL);
  midden_blocking_leave();
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  sem_init(&plan.begun, 0, 0);
  sem_init(&plan.over, 0, 0);
  sem_init(&clearing.inside, 0, 0);
  sem_init(&clearing.over, 0, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_object_is_freed_beside_the_first_special_of_its_span),
      cmocka_unit_test(a_marker_meets_it),
      cmocka_unit_test(a_marker_reads_what_is_cleared),
  };
  return test_run_group(tests);
}
