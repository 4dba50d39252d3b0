/* Barrier mode and a cycle that does not end, on a forced schedule: the roots are marked, the program has freed objects meanwhile,
 * and then there is no memory to learn the rest of the roots; or the process forks, and the child has no thread that would go on.  All
 * of it is taken back, and what waited for its end happens.
 *
 * Linked with --wrap=rootset_mark_running,--wrap=assist_drain, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/account.h"
#include "gc/assist.h"
#include "gc/cycle.h"
#include "gc/loan.h"
#include "gc/rootset.h"
#include "gc/slowing.h"
#include "gc/work.h"
#include "mutator/barrier.h"
#include "support/cycle_steps.h"

enum { LARGE_BYTES = 1 << 20, ROUNDS = 2000, GARBAGE_BYTES = 64 << 10, SECONDS = 20 };

static void **holder;               /* holder[0]: what is watched */
static uintptr_t kept, freed;       /* hidden */
static bool roots_fail, waits_fork; /* atomic */
static unsigned given_up;           /* atomic; cycles, for lack of memory */

bool __real_rootset_mark_running(struct mutator *self, struct midden_tracer *tracer);
bool __wrap_rootset_mark_running(struct mutator *self, struct midden_tracer *tracer);
void __real_assist_drain(struct cycle *cycle);
void __wrap_assist_drain(struct cycle *cycle);

bool __wrap_rootset_mark_running(struct mutator *self, struct midden_tracer *tracer) {
  bool all = __real_rootset_mark_running(self, tracer) && !__atomic_load_n(&roots_fail, __ATOMIC_ACQUIRE);
  if (!all) __atomic_fetch_add(&given_up, 1, __ATOMIC_RELEASE);
  return all;
}

void __wrap_assist_drain(struct cycle *marking) {
  while (__atomic_load_n(&waits_fork, __ATOMIC_ACQUIRE)) {
    loan_offer(marking->self);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  __real_assist_drain(marking);
}

/* ---- what is left of the cycle ---- */

static void no_finalizer(void *object, void *argument) { (void)object, (void)argument; }

/* Its set of specials comes and goes with it. */
NOINLINE_TEST static void free_large_with_special(void) {
  void *large = midden_alloc(LARGE_BYTES);
  REQUIRE(midden_finalizer_set(large, no_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0, "no finalizer");
  REQUIRE(midden_finalizer_set(large, NULL, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0, "no finalizer");
  midden_free(large);
}

NOINLINE_TEST static bool is_collected_again(void) {
  uint64_t before = test_stats().collections;
  for (int i = 0; i < ROUNDS && test_stats().collections == before; i++) midden_alloc(GARBAGE_BYTES);
  return test_stats().collections != before;
}

static void require_taken_back(void) {
  REQUIRE(collector_phase() == COLLECTOR_OFF && !barrier_marks(), "phase %d", (int)collector_phase());
  REQUIRE(cache_black_cycle == 0, "new objects are marked");
  REQUIRE(!work_is_available(), "grey objects are left");
  REQUIRE(slowing_beyond_bytes == SIZE_MAX, "threads are to rest");
  REQUIRE(test_stats().freed_waiting == 0 && !midden_owns(test_unhide(freed)), "what was freed waits");
  free_large_with_special();
  REQUIRE(account_trigger_bytes != SIZE_MAX && is_collected_again(), "no cycle follows");
}

NOINLINE_TEST static void require_works(void) {
  test_collect_clean();
  REQUIRE(is_kept(kept) && is_dropped_gone(), "kept: %d", (int)is_kept(kept));
  midden_verify();
}

/* ---- the program ---- */

NOINLINE_TEST static void make(void) {
  void *object = midden_alloc(64);
  kept = test_hide(object);
  midden_store(&holder, midden_alloc(64));
  midden_store(&holder[0], object);
  watch(object);
}

NOINLINE_TEST static void alloc_and_free(void) {
  void *object = midden_alloc(128);
  freed = test_hide(object);
  midden_free(object);
}

static void begin(void) {
  make();
  test_scrub_stack();
  cycle_begin(&cycle.read);
  alloc_and_free();
  test_scrub_stack();
  REQUIRE(test_stats().freed_waiting != 0, "it is freed beside a cycle");
}

static void for_lack_of_memory(void **state) {
  (void)state;
  uint64_t before = test_stats().collections;
  __atomic_store_n(&roots_fail, true, __ATOMIC_RELEASE);
  begin();
  cycle_go_on(&cycle.read);
  cycle_end();
  __atomic_store_n(&roots_fail, false, __ATOMIC_RELEASE);
  assert_int_equal(test_stats().collections, before);
  require_taken_back();
  require_works();
}

static void *await_given_up(void *unused) {
  while (__atomic_load_n(&given_up, __ATOMIC_ACQUIRE) == 0 || atomic_load_acquire(&collector.owner) != 0)
    test_sleep_ms(1);
  return unused;
}

/* Or each window that is filled would ask for the next, which would fail alike. */
static void the_next_for_growth_is_put_off(void **state) {
  (void)state;
  __atomic_store_n(&given_up, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&roots_fail, true, __ATOMIC_RELEASE);
  collector.totals.goal_bytes = 1;
  account_trigger_bytes = 0;
  collector_collect(COLLECT_HEAP, NULL, NULL);
  midden_blocking_call(await_given_up, NULL);
  __atomic_store_n(&roots_fail, false, __ATOMIC_RELEASE);
  assert_false(account_collection_is_due());
  require_works();
}

static int take_back(void *unused) {
  (void)unused;
  __atomic_store_n(&waits_fork, false, __ATOMIC_RELEASE);
  require_taken_back();
  require_works();
  return 0;
}

static void in_the_child_of_a_fork(void **state) {
  (void)state;
  __atomic_store_n(&waits_fork, true, __ATOMIC_RELEASE);
  begin();
  cycle_go_on(&cycle.read);
  test_child_succeeds("the child", take_back, NULL, SECONDS);
  __atomic_store_n(&waits_fork, false, __ATOMIC_RELEASE);
  cycle_end();
  require_works();
}

int main(void) {
  cycle_init();
  alarm(2 * SECONDS); /* a hang is a failure too */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(for_lack_of_memory),
      cmocka_unit_test(in_the_child_of_a_fork),
      cmocka_unit_test(the_next_for_growth_is_put_off),
  };
  return test_run_group(tests);
}
