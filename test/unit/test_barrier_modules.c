/* Barrier mode and objects that are loaded in the middle of a cycle, on a forced schedule: right behind the collector's
 * learning what is loaded, the main thread opens a library and makes its data the only holder of an object.  Or it closes one; or
 * there is no memory to learn it. */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutator/barrier.h"
#include "mutator/roots.h"
#include "support/heap_test.h"

enum { CYCLES = 3 };

static struct {
  bool opens;       /* behind the next learning the library is opened */
  bool fails;       /* there is no memory to learn what is loaded when the cycle begins */
  bool fails_again; /* nor for what has come since */
  sem_t begun, filled, over;
} plan;

static struct midden_weak *kept, *dropped;
static void *library;
static void **(*slot_function)(void);

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
}

/* ---- the collector's side ---- */

typedef void visit_fn(void *argument, struct os_range range);
bool __real_roots_learn(struct mutator *self);
bool __wrap_roots_learn(struct mutator *self);
bool __real_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);

bool __wrap_roots_learn(struct mutator *self) {
  bool learned = __real_roots_learn(self);
  if (plan.opens) {
    plan.opens = false;
    sem_post(&plan.begun);
    await(&plan.filled);
  }
  return learned && !plan.fails;
}

bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument) {
  return __real_roots_visit_running(self, visit, argument) && !plan.fails_again;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&plan.over);
  return NULL;
}

/* ---- the program's side ---- */

static void find_slot(const char *function) {
  library = dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW);
  REQUIRE(library != NULL, "dlopen: %s", dlerror());
  void *symbol = dlsym(library, function);
  REQUIRE(symbol != NULL, "dlsym: %s", dlerror());
  memcpy(&slot_function, &symbol, sizeof symbol);
}

/* The object was made before the cycle: it is white.  Only the slot has it when this returns. */
NOINLINE_TEST static void fill_slot(uintptr_t hidden) { midden_store(slot_function(), test_unhide(hidden)); }

NOINLINE_TEST static uintptr_t make_object(struct midden_weak **weak) {
  void *object = midden_alloc(64);
  REQUIRE(object != NULL, "out of memory");
  midden_store(weak, midden_weak_new(object));
  return test_hide(object);
}

NOINLINE_TEST static bool is_dead(const struct midden_weak *weak) { return midden_weak_get(weak) == NULL; }

NOINLINE_TEST static bool is_in_slot(const struct midden_weak *weak) {
  void *object = midden_weak_get(weak);
  return object != NULL && object == *slot_function();
}

/* A cycle in which the library is opened, and the slot that `function` gives is filled. */
static void run_cycle(const char *function) {
  plan.opens = true;
  make_object(&dropped);
  /* A register may name what is kept, and so the end of what lies before it. */
  REQUIRE(midden_alloc(64) != NULL, "out of memory");
  uintptr_t hidden = make_object(&kept);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  await(&plan.begun);
  find_slot(function);
  fill_slot(hidden);
  test_scrub_stack();
  sem_post(&plan.filled);
  await(&plan.over);
  pthread_join(thread, NULL);
}

static void close_library(void) {
  midden_store(slot_function(), NULL);
  dlclose(library);
}

static void holds_what_its_slot_has(const char *function) {
  for (int i = 0; i < CYCLES; i++) {
    run_cycle(function);
    assert_true(is_in_slot(kept));
    assert_true(is_dead(dropped));
    midden_collect();
    assert_true(is_in_slot(kept));
    close_library();
    test_collect_clean();
    assert_true(is_dead(kept));
  }
}

/* ---- tests ---- */

static void static_data_of_a_library_that_comes_is_kept(void **state) {
  (void)state;
  holds_what_its_slot_has("dl_os_static_slot");
}

static void thread_storage_of_a_library_that_comes_is_kept(void **state) {
  (void)state;
  holds_what_its_slot_has("dl_os_thread_slot");
}

/* What was learned of it names memory that is there no more. */
static void a_library_that_goes_is_not_read(void **state) {
  (void)state;
  static const char *const functions[] = {"dl_os_static_slot", "dl_os_thread_slot"};
  for (size_t i = 0; i < TEST_COUNT_OF(functions); i++) {
    find_slot(functions[i]);
    fill_slot(make_object(&kept));
    midden_collect();
    plan.opens = true;
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
    await(&plan.begun);
    close_library();
    REQUIRE(dlopen(DL_OS_DYNAMIC_PATH, RTLD_NOW | RTLD_NOLOAD) == NULL, "it is still there");
    sem_post(&plan.filled);
    await(&plan.over);
    pthread_join(thread, NULL);
    test_collect_clean();
    assert_true(is_dead(kept));
  }
}

/* Nothing is lost, nothing is freed, and the next cycle is a good one. */
static void a_cycle_without_memory_to_learn_the_roots_is_given_up(void **state) {
  (void)state;
  uint64_t before = test_stats().collections;
  plan.fails_again = true; /* stacks are scanned, roots are marked */
  run_cycle("dl_os_static_slot");
  assert_int_equal(test_stats().collections, before);
  assert_false(barrier_marks());
  assert_true(is_in_slot(kept));
  midden_verify();

  plan.fails = true; /* before any stack is scanned */
  midden_collect();
  assert_int_equal(test_stats().collections, before);
  assert_false(barrier_marks());

  plan.fails = plan.fails_again = false;
  test_collect_clean();
  assert_int_equal(test_stats().collections, before + 1);
  assert_true(is_in_slot(kept));
  assert_true(is_dead(dropped));
  close_library();
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  sem_init(&plan.begun, 0, 0);
  sem_init(&plan.filled, 0, 0);
  sem_init(&plan.over, 0, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(static_data_of_a_library_that_comes_is_kept),
      cmocka_unit_test(thread_storage_of_a_library_that_comes_is_kept),
      cmocka_unit_test(a_library_that_goes_is_not_read),
      cmocka_unit_test(a_cycle_without_memory_to_learn_the_roots_is_given_up),
  };
  return test_run_group(tests);
}
