/* Dirty-page mode and static data, on forced schedules: a page that an earlier cycle has protected is left out of a stop only
 * if this cycle has read it.
 *
 * An object lies in static data alone when a cycle begins, or when it ends; the page was protected, and read, by the cycle
 * before, and is not written meanwhile.  Around the reading of static data (--wrap, see cmake/tests.cmake) the program
 *
 *   takes static data out of the roots, and puts it back when it was passed over;
 *   lets the module filter refuse it, and allow it again behind the reading;
 *   or there is no memory to learn anew what is loaded. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutator/ranges.h"
#include "mutator/roots.h"
#include "support/dirty_test.h"

enum { WORDS = 1 << 16, SLOT = 1000 + (40 << 9) };

/* Half a megabyte, which is long; used, or a compiler makes words of their own of the elements that are. */
static __attribute__((used)) void *volatile slots[WORDS];
static void **holder;
static struct midden_weak *weak, *dropped; /* the second to an object that nobody else has */

static struct {
  bool waits;     /* atomic; the next cycle, before it reads static data and after */
  bool no_memory; /* atomic; to learn what is loaded */
  sem_t here, go, over;
  pthread_t thread;
} plan;

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a stop */
}

/* ---- the collector's side ---- */

int __real_ranges_add(struct ranges *set, struct os_range range);
int __wrap_ranges_add(struct ranges *set, struct os_range range);
bool __real_roots_visit_running(struct mutator *self, roots_visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, roots_visit_fn *visit, void *argument);

int __wrap_ranges_add(struct ranges *set, struct os_range range) {
  return __atomic_load_n(&plan.no_memory, __ATOMIC_ACQUIRE) ? -ENOMEM : __real_ranges_add(set, range);
}

static void let_the_program_act(void) {
  sem_post(&plan.here);
  await(&plan.go);
}

bool __wrap_roots_visit_running(struct mutator *self, roots_visit_fn *visit, void *argument) {
  bool waits = __atomic_exchange_n(&plan.waits, false, __ATOMIC_ACQ_REL);
  if (waits) let_the_program_act();
  bool all = __real_roots_visit_running(self, visit, argument);
  __atomic_store_n(&plan.no_memory, false, __ATOMIC_RELEASE);
  if (waits) let_the_program_act();
  return all;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&plan.over);
  return NULL;
}

/* ---- the program's side ---- */

/* Returns when this thread was scanned, and static data was not read yet. */
static void begin_cycle(void) {
  __atomic_store_n(&plan.waits, true, __ATOMIC_RELEASE);
  REQUIRE(pthread_create(&plan.thread, NULL, collect, NULL) == 0, "pthread_create");
  await(&plan.here);
}

/* Returns when it was read, or passed over. */
static void let_it_read(void) {
  sem_post(&plan.go);
  await(&plan.here);
}

static void end_cycle(void) {
  sem_post(&plan.go);
  await(&plan.over);
  pthread_join(plan.thread, NULL);
  test_scrub_stack();
}

/* Not the first of its span, whose address many a frame holds. */
NOINLINE_TEST static void drop_object(void) {
  REQUIRE(midden_alloc(64) != NULL, "out of memory");
  dropped = midden_weak_new(midden_alloc(64));
  REQUIRE(dropped != NULL, "out of memory");
}

/* With an object between it and the dropped one, whose end its address would be, in a register. */
NOINLINE_TEST static void fill_slot(void) {
  REQUIRE(midden_alloc(64) != NULL, "out of memory");
  void *object = midden_alloc(64);
  REQUIRE(object != NULL, "out of memory");
  weak = midden_weak_new(object);
  slots[SLOT] = object;
}

/* Then its page is CLEAN. */
static void make_object(void) {
  drop_object();
  fill_slot();
  test_scrub_stack();
  for (int i = 0; i < 2; i++) midden_collect();
  assert_null(midden_weak_get(dropped));
}

NOINLINE_TEST static void slot_to_holder(void) { holder[7] = slots[SLOT]; }

NOINLINE_TEST static void holder_to_slot(void) {
  slots[SLOT + 1] = holder[7];
  holder[7] = NULL;
}

NOINLINE_TEST static bool is_alive(void) { return midden_weak_get(weak) != NULL; }

static bool refuse(const char *name, void *start, size_t bytes) {
  (void)name, (void)start, (void)bytes;
  return false;
}

/* ---- tests ---- */

static void what_is_no_root_for_a_while_is_read_in_the_stop(void **state) {
  (void)state;
  make_object();
  begin_cycle();
  void *volatile on_stack = slots[SLOT];
  midden_root_modules(false);
  let_it_read();
  midden_root_modules(true);
  on_stack = NULL;
  test_scrub_stack();
  end_cycle();
  assert_true(is_alive());
  assert_null(on_stack);
}

static void what_the_filter_allows_again_is_read_in_the_stop(void **state) {
  (void)state;
  make_object();
  slot_to_holder();
  test_scrub_stack();
  midden_set_module_filter(refuse);
  begin_cycle();
  midden_set_module_filter(NULL);
  holder[7] = NULL;
  test_scrub_stack();
  let_it_read();
  end_cycle();
  assert_true(is_alive());
}

static void without_memory_to_learn_the_stop_reads_all(void **state) {
  (void)state;
  make_object();
  begin_cycle();
  __atomic_store_n(&plan.no_memory, true, __ATOMIC_RELEASE);
  void *library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  REQUIRE(library != NULL, "dlopen: %s", dlerror());
  let_it_read();
  end_cycle();
  assert_true(is_alive());
  dlclose(library);
}

static void what_is_written_is_read_in_the_stop(void **state) {
  (void)state;
  make_object();
  slot_to_holder();
  slots[SLOT] = NULL;
  test_scrub_stack();
  begin_cycle();
  let_it_read();
  holder_to_slot();
  test_scrub_stack();
  end_cycle();
  assert_true(is_alive());
  slots[SLOT + 1] = NULL;
}

int main(void) {
  test_start("test_dirty_static");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  struct midden_options options = {
      .size = sizeof(options), .mode = MIDDEN_MODE_DIRTY, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  REQUIRE(midden_root_add(&weak, &weak + 1) == 0 && midden_root_add(&dropped, &dropped + 1) == 0 &&
              midden_root_add(&holder, &holder + 1) == 0,
          "midden_root_add");
  holder = midden_alloc(4 << 20); /* so that cycles run beside the program */
  sem_init(&plan.here, 0, 0);
  sem_init(&plan.go, 0, 0);
  sem_init(&plan.over, 0, 0);
  alarm(60);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_no_root_for_a_while_is_read_in_the_stop),
      cmocka_unit_test(what_the_filter_allows_again_is_read_in_the_stop),
      cmocka_unit_test(without_memory_to_learn_the_stop_reads_all),
      cmocka_unit_test(what_is_written_is_read_in_the_stop),
  };
  return test_run_group(tests);
}
