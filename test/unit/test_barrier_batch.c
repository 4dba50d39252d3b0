/* Barrier mode and midden_alloc_many, on forced schedules.
 *
 * The list is stored to an object of another thread's that was scanned before this one: nobody reads that object in this cycle,
 * so that nothing but what the library tells the collector keeps the new objects, which are white.  And the list replaces one
 * that the thread, scanned, has just loaded. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "mutator/roots.h"
#include "span/guard.h"
#include "support/heap_test.h"

static struct {
  bool waits_armed; /* before the stacks are scanned */
  bool waits_roots; /* behind the next marking of the roots */
  sem_t armed, begins, made, begun, done, over;
} plan;

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
}

/* ---- the collector's side ---- */

bool __real_roots_learn(struct mutator *self);
bool __wrap_roots_learn(struct mutator *self);

bool __wrap_roots_learn(struct mutator *self) {
  bool learned = __real_roots_learn(self);
  if (plan.waits_armed) {
    plan.waits_armed = false;
    sem_post(&plan.armed);
    await(&plan.begins);
  }
  return learned;
}

typedef void visit_fn(void *argument, struct os_range range);
bool __real_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);

bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument) {
  bool all = __real_roots_visit_running(self, visit, argument);
  if (plan.waits_roots) {
    plan.waits_roots = false;
    sem_post(&plan.begun);
    await(&plan.done);
  }
  return all;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&plan.over);
  return NULL;
}

static pthread_t begin_cycle(void) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  return thread;
}

static void end_cycle(pthread_t thread) {
  await(&plan.over);
  pthread_join(thread, NULL);
}

/* ---- an object that is not scanned ---- */

static void **holder; /* holder[0]: the list */

static void *make_holder(void *unused) {
  (void)unused;
  while (!cache_is_black(&mutator_self()->cache)) {
    midden_blocking_enter();
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    midden_blocking_leave();
  }
  midden_store(&holder, midden_alloc(64));
  sem_post(&plan.made);
  return NULL;
}

enum { BYTES = 48 };

NOINLINE_TEST static void fill_window(midden_kind kind) { midden_alloc_kind(kind, BYTES); }

static uintptr_t hidden[256];
static size_t count;

NOINLINE_TEST static void make_list(midden_kind kind) {
  count = midden_alloc_many(kind, BYTES, (void **)&holder[0]);
  size_t i = 0;
  for (void **object = holder[0]; object != NULL; object = object[0]) hidden[i++] = test_hide(object);
}

NOINLINE_TEST static size_t count_living(void) {
  size_t living = 0;
  for (size_t i = 0; i < count; i++) living += midden_owns(test_unhide(hidden[i]));
  return living;
}

static void block_handshakes(bool block) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, midden_suspend_signal());
  pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void keeps_what_another_holds(midden_kind kind) {
  pthread_t maker;
  test_scrub_stack();
  fill_window(kind);
  plan.waits_armed = true;
  pthread_t collector = begin_cycle();
  await(&plan.armed);
  block_handshakes(true);
  sem_post(&plan.begins);
  REQUIRE(pthread_create(&maker, NULL, make_holder, NULL) == 0, "pthread_create");
  await(&plan.made);
  pthread_join(maker, NULL);
  make_list(kind);
  test_scrub_stack();
  block_handshakes(false);
  end_cycle(collector);
  assert_true(count > 1 || guard_active); /* guarded, a batch is one */
  assert_int_equal(count_living(), count);
}

/* What a trace function of the program's would find by its own lists: nothing reads the objects. */
static void trace_nothing(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)object, (void)slot_bytes, (void)tracer, (void)argument;
}

static void a_list_in_an_object_of_a_scanned_thread_is_kept(void **state) {
  (void)state;
  keeps_what_another_holds(MIDDEN_CONSERVATIVE);
}

static void all_of_it_is_kept_where_only_trace_functions_find_it(void **state) {
  (void)state;
  int kind = midden_kind_new(&(struct midden_kind_options){
      .size = sizeof(struct midden_kind_options), .name = "traced", .trace = trace_nothing});
  REQUIRE(kind >= 0, "midden_kind_new");
  keeps_what_another_holds((midden_kind)kind);
}

/* ---- what the list replaces ---- */

static struct midden_weak *weak, *dropped;

NOINLINE_TEST static void make_old(void) {
  void *old = midden_alloc(64);
  midden_store(&holder, midden_alloc(64));
  midden_store(&holder[0], old);
  midden_store(&weak, midden_weak_new(old));
  midden_store(&dropped, midden_weak_new(midden_alloc(64)));
}

NOINLINE_TEST static uintptr_t load_and_replace(void) {
  uintptr_t old = test_hide(holder[0]);
  REQUIRE(midden_alloc_many(MIDDEN_CONSERVATIVE, BYTES, (void **)&holder[0]) != 0, "out of memory");
  return old;
}

NOINLINE_TEST static bool is_kept(uintptr_t old) { return test_hide(midden_weak_get(weak)) == old; }
NOINLINE_TEST static bool is_dropped_gone(void) { return midden_weak_get(dropped) == NULL; }

static void what_the_list_replaces_is_kept(void **state) {
  (void)state;
  make_old();
  test_scrub_stack();
  plan.waits_roots = true;
  pthread_t collector = begin_cycle();
  await(&plan.begun);
  uintptr_t old = load_and_replace();
  test_scrub_stack();
  sem_post(&plan.done);
  end_cycle(collector);
  assert_true(is_kept(old));
  assert_true(is_dropped_gone());
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  sem_t *all[] = {&plan.armed, &plan.begins, &plan.made, &plan.begun, &plan.done, &plan.over};
  for (size_t i = 0; i < TEST_COUNT_OF(all); i++) sem_init(all[i], 0, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_list_in_an_object_of_a_scanned_thread_is_kept),
      cmocka_unit_test(all_of_it_is_kept_where_only_trace_functions_find_it),
      cmocka_unit_test(what_the_list_replaces_is_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
