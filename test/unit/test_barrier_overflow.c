/* Barrier mode and what finds no place, on a forced schedule: roots are read, and the heap is not.
 *
 * Without memory for grey objects: the last white object that is reachable waits in the main thread's record of its stores.  The
 * handshake at the end of marking marks it, and has no place to note it but the range that is to be scanned again: what it refers
 * to must be found all the same.
 *
 * The record itself: a full one makes room for the next words, and where there is no memory for one, the words are marked at once.
 *
 * Linked with --wrap=fixalloc_alloc, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gc/work.h"
#include "meta/fixalloc.h"
#include "mutator/barrier.h"
#include "support/cycle_steps.h"

static void **holder;    /* holder[0] -> a node, whose first word refers to the object */
static uintptr_t hidden; /* the node */

NOINLINE_TEST static void make(void) {
  void **node = midden_alloc(64), *object = midden_alloc(64);
  midden_store(&node[0], object);
  midden_store(&holder, midden_alloc(64));
  midden_store(&holder[0], node);
  watch(object);
}

/* From here on the thread alone holds the node. */
NOINLINE_TEST static void load_and_clear(void) {
  hidden = test_hide(holder[0]);
  midden_store(&holder[0], NULL);
}

NOINLINE_TEST static bool is_whole(void) {
  void **node = test_unhide(hidden);
  return midden_owns(node) && node[0] != NULL && midden_weak_get(watched) == node[0];
}

static void take_all_buffers(void) {
  work_limit_buffers(1);
  while (work_get_empty() != NULL) continue;
}

static void what_overflows_in_the_last_handshake_is_scanned(void **state) {
  (void)state;
  make();
  test_scrub_stack();
  take_all_buffers();
  cycle_begin(&cycle.read);
  load_and_clear();
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
  assert_true(is_whole());
  assert_true(is_dropped_gone());
}

/* ---- the record of a thread's stores ---- */

enum { OBJECTS = 3 * BARRIER_WORDS };

static bool no_memory; /* for fixed blocks; of the main thread */
static uintptr_t loaded[OBJECTS];

void *__real_fixalloc_alloc(struct fixalloc *blocks);
void *__wrap_fixalloc_alloc(struct fixalloc *blocks);

void *__wrap_fixalloc_alloc(struct fixalloc *blocks) { return no_memory ? NULL : __real_fixalloc_alloc(blocks); }

NOINLINE_TEST static void make_many(void) {
  midden_store(&holder, midden_alloc(OBJECTS * sizeof *holder));
  for (size_t i = 0; i < OBJECTS; i++) midden_store(&holder[i], midden_alloc(64));
}

NOINLINE_TEST static void load_and_clear_many(void) {
  for (size_t i = 0; i < OBJECTS; i++) {
    loaded[i] = test_hide(holder[i]);
    midden_store(&holder[i], NULL);
    const struct barrier_buffer *records = mutator_self()->records;
    REQUIRE(records == NULL || records->count <= BARRIER_WORDS, "%u words in a record", (unsigned)records->count);
  }
}

NOINLINE_TEST static size_t count_living(void) {
  size_t living = 0;
  for (size_t i = 0; i < OBJECTS; i++) living += midden_owns(test_unhide(loaded[i]));
  return living;
}

static void keeps_what_is_recorded(bool without_memory) {
  make_many();
  test_scrub_stack();
  cycle_begin(&cycle.read);
  no_memory = without_memory;
  load_and_clear_many();
  no_memory = false;
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
  assert_int_equal(count_living(), OBJECTS);
  test_collect_clean();
  assert_in_range(count_living(), 0, OBJECTS / 2);
}

/* First of all: the thread has no record yet. */
static void without_memory_for_a_record_words_are_marked_at_once(void **state) {
  (void)state;
  REQUIRE(mutator_self()->records == NULL, "there is a record");
  keeps_what_is_recorded(true);
}

static void a_full_record_is_flushed(void **state) {
  (void)state;
  keeps_what_is_recorded(false);
}

int main(void) {
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_memory_for_a_record_words_are_marked_at_once),
      cmocka_unit_test(a_full_record_is_flushed),
      cmocka_unit_test(what_overflows_in_the_last_handshake_is_scanned),
  };
  return test_run_group(tests);
}
