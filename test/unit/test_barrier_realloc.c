/* Barrier mode and midden_realloc, on a forced schedule: all stacks are scanned, nothing of the heap is, when the main
 * thread loads a reference from the end of an object and cuts that end off.  From then on its stack alone holds what it
 * referred to, and nobody will look there: it is kept by what midden_realloc tells the collector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "span/guard.h"
#include "support/cycle_steps.h"

enum { WORDS = 32 };

static void **array; /* its last holder of each reference but the thread's own */

NOINLINE_TEST static void make(size_t word) {
  void **made = midden_alloc(WORDS * sizeof(void *));
  void *object = midden_alloc(64);
  REQUIRE(made != NULL && object != NULL, "out of memory");
  midden_store(&made[word], object);
  midden_store(&array, made);
  watch(object);
}

/* What the word referred to, hidden: only the caller holds it now. */
NOINLINE_TEST static uintptr_t load_and_cut(size_t word, size_t bytes) {
  uintptr_t hidden = test_hide(array[word]);
  void *before = array;
  REQUIRE(midden_realloc(array, bytes) == before, "the object was moved");
  return hidden;
}

/* A cycle in which the array, whose word `word` alone refers to an object, is cut to `bytes`. */
static void keeps_what_is_cut_off(size_t word, size_t bytes) {
  make(word);
  test_scrub_stack();
  cycle_begin(&cycle.read);
  uintptr_t hidden = load_and_cut(word, bytes);
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
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
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(whole_words_that_are_cut_off_are_recorded),
      cmocka_unit_test(a_word_that_is_cut_in_two_is_recorded),
      cmocka_unit_test(the_first_bytes_of_a_word_stay),
  };
  return test_run_group(tests);
}
