/* The records of objects: blocks of two sizes, sets that grow, and what happens where there is no memory for a set or a larger one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/special.h"
#include "meta/persist.h"
#include "mutator/mutator.h"
#include "os/os.h"
#include "span/object.h"
#include "support/heap_test.h"

enum { OBJECT_BYTES = 64, OBJECTS = 100 };

static bool is_small(int kind) { return kind == SPECIAL_WEAK || kind == SPECIAL_EPHEMERON || kind == SPECIAL_HOLDER; }

/* A small one among the large would overlap the next. */
static void a_block_goes_back_to_where_it_came_from(void **state) {
  (void)state;
  for (int kind = 0; kind < SPECIAL_KINDS; kind++) {
    struct special *record = special_alloc(is_small(kind));
    assert_non_null(record);
    record->kind = (uint8_t)kind;
    special_free(record);
    struct special *same = special_alloc(is_small(kind)), *other = special_alloc(!is_small(kind));
    assert_ptr_equal(same, record);
    assert_ptr_not_equal(other, record);
  }
}

/* ---- sets that grow ---- */

static void died(uintptr_t object, void *argument) { (void)object, ++*(size_t *)argument; }

static int watch(void *object, size_t *deaths) {
  mutator_enter(mutator_self());
  int error = special_watch((uintptr_t)object, died, deaths);
  mutator_leave(mutator_self());
  return error;
}

static void *objects[OBJECTS]; /* a root */

static void make_objects(void) {
  for (size_t i = 0; i < OBJECTS; i++) assert_non_null(objects[i] = midden_alloc(OBJECT_BYTES));
}

static void free_objects(void) {
  for (size_t i = 0; i < OBJECTS; i++) midden_free(objects[i]);
}

/* A collector that settles the dead beside the program comes again for those that it has seen. */
static void a_set_that_grows_is_known_to_hold_dead_objects(void **state) {
  (void)state;
  size_t deaths = 0;
  make_objects();
  struct span *span = object_span((uintptr_t)objects[0]);
  assert_int_equal(watch(objects[0], &deaths), 0);
  unsigned shift = span->specials->bucket_shift;
  span->specials->death = DEATH_SOME;
  span->specials->refers = true;
  for (size_t i = 1; i < OBJECTS; i++) assert_int_equal(watch(objects[i], &deaths), 0);
  assert_true(span->specials->bucket_shift < shift);
  assert_int_equal(span->specials->death, DEATH_SOME);
  assert_true(span->specials->refers);
  span->specials->death = DEATH_UNKNOWN;
  free_objects();
  assert_int_equal(deaths, OBJECTS);
}

static void sets_that_grew_are_used_again(void **state) {
  (void)state;
  enum { ROUNDS = 200 };
  size_t deaths = 0, held = 0;
  for (size_t round = 0; round < ROUNDS; round++) {
    make_objects();
    for (size_t i = 0; i < OBJECTS; i++) assert_int_equal(watch(objects[i], &deaths), 0);
    free_objects();
    if (round == 0) held = persist_bytes(PERSIST_SPECIAL);
  }
  assert_true(persist_bytes(PERSIST_SPECIAL) <= held + (16 << 10));
}

/* ---- one object's records ---- */

static void add(struct span *span, void *object, struct special *record, enum special_kind kind, bool refers) {
  memset(record, 0, is_small(kind) ? 32 : 64);
  record->object = (uintptr_t)object;
  record->kind = (uint8_t)kind;
  record->refers = refers;
  lock_acquire(special_lock(span));
  int error = special_add_locked(span, record);
  lock_release(special_lock(span));
  assert_int_equal(error, 0);
}

static void take_out(struct span *span, struct special *record) {
  lock_acquire(special_lock(span));
  special_remove_locked(span, record);
  lock_release(special_lock(span));
  assert_int_equal(record->object, 0);
}

static struct special *find(const struct span *span, const void *object, enum special_kind kind) {
  lock_acquire(special_lock(span));
  struct special *record = special_find_locked(span, (uintptr_t)object, kind);
  lock_release(special_lock(span));
  return record;
}

/* The second of a kind takes the place of the first: what stands behind them stays. */
static void a_record_that_goes_leaves_the_others(void **state) {
  (void)state;
  void *object = midden_alloc(OBJECT_BYTES);
  struct span *span = object_span((uintptr_t)object);
  struct special *first = special_alloc(false), *second = special_alloc(false), *last = special_alloc(false);
  size_t total = special_totals[SPECIAL_CLEANUP];
  mutator_enter(mutator_self());
  add(span, object, first, SPECIAL_CLEANUP, false);
  add(span, object, second, SPECIAL_CLEANUP, false);
  add(span, object, last, SPECIAL_WATCH, false);
  take_out(span, first);
  assert_ptr_equal(find(span, object, SPECIAL_CLEANUP), second);
  assert_ptr_equal(find(span, object, SPECIAL_WATCH), last);
  assert_int_equal(special_totals[SPECIAL_CLEANUP], total + 1);
  take_out(span, second);
  assert_null(find(span, object, SPECIAL_CLEANUP));
  assert_ptr_equal(find(span, object, SPECIAL_WATCH), last);
  assert_int_equal(special_totals[SPECIAL_CLEANUP], total);
  take_out(span, last);
  assert_null(span->specials);
  mutator_leave(mutator_self());
}

static void an_object_is_watched_once(void **state) {
  (void)state;
  size_t deaths = 0;
  void *object = midden_alloc(OBJECT_BYTES);
  assert_int_equal(watch(object, &deaths), 0);
  assert_int_equal(watch(object, &deaths), -EEXIST);
  midden_free(object);
  assert_int_equal(deaths, 1);
}

/* Whoever marks beside the program passes over sets in which there was nothing to mark. */
static void what_may_be_marked_is_news(void **state) {
  (void)state;
  void *object = midden_alloc(OBJECT_BYTES);
  struct span *span = object_span((uintptr_t)object);
  struct special *watch = special_alloc(false), *cleanup = special_alloc(false), *ephemeron = special_alloc(true);
  mutator_enter(mutator_self());
  add(span, object, watch, SPECIAL_WATCH, false);
  span->specials->marking = 1;
  add(span, object, ephemeron, SPECIAL_EPHEMERON, false);
  assert_int_equal(span->specials->marking, 0);
  span->specials->marking = 1;
  add(span, object, cleanup, SPECIAL_CLEANUP, true);
  assert_int_equal(span->specials->marking, 0);
  take_out(span, ephemeron);
  take_out(span, cleanup);
  take_out(span, watch);
  mutator_leave(mutator_self());
}

static void count_sets(struct special_set *set, void *argument, unsigned marker) {
  (void)set, (void)marker, ++*(size_t *)argument;
}

/* Who visits them goes by their number. */
static void an_empty_set_stays_while_they_are_frozen(void **state) {
  (void)state;
  size_t before = 0, frozen = 0;
  void *object = midden_alloc(OBJECT_BYTES);
  struct span *span = object_span((uintptr_t)object);
  struct special *record = special_alloc(false);
  mutator_enter(mutator_self());
  special_visit_running(count_sets, &before);
  add(span, object, record, SPECIAL_WATCH, false);
  special_freeze();
  take_out(span, record);
  assert_non_null(span->specials);
  special_visit_running(count_sets, &frozen);
  assert_int_equal(frozen, before + 1);
  special_thaw();
  assert_null(span->specials);
  mutator_leave(mutator_self());
}

/* ---- no memory ---- */

static bool refused; /* all that is asked for */

void *__real_persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose);
void *__wrap_persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose);

void *__wrap_persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose) {
  return refused ? NULL : __real_persist_alloc(bytes, alignment, purpose);
}

/* No set grows then; all that there is room for are found. */
static void without_memory_for_a_larger_set_the_old_one_does(void **state) {
  (void)state;
  size_t deaths = 0, watched = 0;
  make_objects();
  assert_int_equal(watch(objects[0], &deaths), 0); /* the first of its chunks */
  refused = true;
  for (size_t i = 0; i < OBJECTS; i++) {
    int error = watch(objects[i], &deaths);
    assert_true(error == 0 || error == (i == 0 ? -EEXIST : -ENOMEM));
    watched += error == 0 || i == 0;
  }
  refused = false;
  midden_verify();
  assert_true(watched > OBJECTS / 2);
  free_objects();
  assert_int_equal(deaths, watched);
  midden_verify();
}

int main(void) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_memory_for_a_larger_set_the_old_one_does), /* first: no larger one was freed */
      cmocka_unit_test(a_block_goes_back_to_where_it_came_from),
      cmocka_unit_test(a_set_that_grows_is_known_to_hold_dead_objects),
      cmocka_unit_test(sets_that_grew_are_used_again),
      cmocka_unit_test(a_record_that_goes_leaves_the_others),
      cmocka_unit_test(an_object_is_watched_once),
      cmocka_unit_test(what_may_be_marked_is_news),
      cmocka_unit_test(an_empty_set_stays_while_they_are_frozen),
  };
  return test_run_group(tests);
}
