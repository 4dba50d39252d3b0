/* Barrier mode and midden_realloc, on a forced schedule: all stacks are scanned, nothing of the heap is, when the main
 * thread loads a reference from the end of an object and cuts that end off.  From then on its stack alone holds what it
 * referred to, and nobody will look there: it is kept by what midden_realloc tells the collector. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "mutator/roots.h"
#include "span/guard.h"
#include "support/heap_test.h"

enum { WORDS = 32 };

static struct {
  bool waits; /* behind the next marking of the roots */
  sem_t begun, cut, over;
} plan;

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
}

/* ---- the collector's side ---- */

typedef void visit_fn(void *argument, struct os_range range);
bool __real_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);

bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument) {
  bool all = __real_roots_visit_running(self, visit, argument);
  if (plan.waits) {
    plan.waits = false;
    sem_post(&plan.begun);
    await(&plan.cut);
  }
  return all;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  sem_post(&plan.over);
  return NULL;
}

/* ---- the program's side ---- */

static void **array; /* its last holder of each reference but the thread's own */
static struct midden_weak *weak, *dropped;

NOINLINE_TEST static void make(size_t word) {
  void **made = midden_alloc(WORDS * sizeof(void *));
  void *object = midden_alloc(64);
  REQUIRE(made != NULL && object != NULL, "out of memory");
  midden_store(&made[word], object);
  midden_store(&array, made);
  midden_store(&weak, midden_weak_new(object));
  midden_store(&dropped, midden_weak_new(midden_alloc(64)));
}

/* What the word referred to, hidden: only the caller holds it now. */
NOINLINE_TEST static uintptr_t load_and_cut(size_t word, size_t bytes) {
  uintptr_t hidden = test_hide(array[word]);
  void *before = array;
  REQUIRE(midden_realloc(array, bytes) == before, "the object was moved");
  return hidden;
}

NOINLINE_TEST static bool is_kept(uintptr_t hidden) { return test_hide(midden_weak_get(weak)) == hidden; }
NOINLINE_TEST static bool is_dropped_gone(void) { return midden_weak_get(dropped) == NULL; }

/* A cycle in which the array, whose word `word` alone refers to an object, is cut to `bytes`. */
static void keeps_what_is_cut_off(size_t word, size_t bytes) {
  make(word);
  test_scrub_stack();
  plan.waits = true;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  await(&plan.begun);
  uintptr_t hidden = load_and_cut(word, bytes);
  test_scrub_stack();
  sem_post(&plan.cut);
  await(&plan.over);
  pthread_join(thread, NULL);
  assert_true(is_kept(hidden));
  assert_true(is_dropped_gone());
  for (size_t i = bytes; i < WORDS * sizeof(void *); i++) assert_int_equal(((char *)array)[i], 0);
  test_collect_clean();
  assert_int_equal(is_kept(hidden),
                   test_hide(array[word]) == hidden); /* it is still whole where its last bytes were 0 */
}

/* ---- tests ---- */

static void whole_words_that_are_cut_off_are_recorded(void **state) {
  (void)state;
  if (guard_active) skip(); /* resizing always moves */
  for (size_t word = WORDS / 2; word < WORDS; word++) keeps_what_is_cut_off(word, WORDS / 2 * sizeof(void *));
}

static void a_word_that_is_cut_in_two_is_recorded(void **state) {
  (void)state;
  if (guard_active) skip(); /* resizing always moves */
  for (size_t part = 1; part < sizeof(void *); part++) keeps_what_is_cut_off(20, 20 * sizeof(void *) + part);
}

static void the_first_bytes_of_a_word_stay(void **state) {
  (void)state;
  if (guard_active) skip(); /* resizing always moves */
  make(0);
  memset(array, 'x', WORDS * sizeof(void *));
  for (size_t bytes = WORDS * sizeof(void *); bytes-- > WORDS / 2 * sizeof(void *);) {
    assert_ptr_equal(midden_realloc(array, bytes), array);
    for (size_t i = 0; i < WORDS * sizeof(void *); i++) assert_int_equal(((char *)array)[i], i < bytes ? 'x' : 0);
  }
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  sem_init(&plan.begun, 0, 0);
  sem_init(&plan.cut, 0, 0);
  sem_init(&plan.over, 0, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(whole_words_that_are_cut_off_are_recorded),
      cmocka_unit_test(a_word_that_is_cut_in_two_is_recorded),
      cmocka_unit_test(the_first_bytes_of_a_word_stay),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
