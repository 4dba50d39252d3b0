/* Finalizers and weak links: each rule by an example, then random graphs against an oracle.
 *
 * Objects are "boxes": typed objects with a few references, found by number.  A box's address is kept disguised; what
 * keeps it alive is a root slot or another box, never a stale word of the test (see heap_test.h).  Each finalizer notes
 * the number of its box, so that a test reads off who was finalized, and in which order.
 *
 * The oracle.  At a collection let R be what roots, arguments of finalizers and boxes that wait for their finalizer
 * reach; C the boxes with a finalizer outside R; M what R and the references of each ordered box in C reach (a box of
 * "ignore self" without its references to itself).  Then the boxes in C and outside M become ready, those of
 * "unreachable" only if no other one that becomes ready reaches them.  A stale word only ever makes R larger, and
 * with it the ready set smaller: no box may become ready before the oracle says so, and hardly any later. */
#include "midden/barrier.h"
#include "span/guard.h"
#include "support/heap_test.h"

#include <setjmp.h>

#include <cmocka.h>

enum { BOXES = 4000, BOX_SLOTS = 4, NOBODY = -1 };

struct box {
  uintptr_t slots[BOX_SLOTS];
  uintptr_t number; /* complemented: no small integer in it */
};

static const uint64_t box_pointers[] = {(1 << BOX_SLOTS) - 1};
static const struct midden_type box_type = {.name = "box", .size = sizeof(struct box), .pointers = box_pointers};

/* What the test knows about a box. */
struct shadow {
  uintptr_t hidden;     /* address, disguised; 0 where there is none */
  int slots[BOX_SLOTS]; /* numbers of boxes, or NOBODY */
  bool rooted;
  bool has_finalizer;
  bool queued; /* ready, as far as the oracle knows */
  enum midden_finalizer_order order;
  int argument;         /* number of a box that is the finalizer's argument, or NOBODY */
  unsigned runs;        /* of its finalizer */
  void *before, *after; /* weak links, armed with any value but NULL */
  bool in_r, in_m;      /* oracle */
  bool left_r, left_m;  /* once outside of R, M: its links are gone, even if a finalizer brings it back */
};

static struct shadow *shadows; /* in memory from malloc */
static uintptr_t *root_slots;  /* one for each box, a root */
static int *finalized;         /* numbers in the order of their finalizers */
static size_t finalized_count;
static struct rng test_rng;

/* ---- boxes ---- */

static struct box *box_at(int number) { return test_unhide(shadows[number].hidden); }

static void box_root(int number, bool rooted) {
  shadows[number].rooted = rooted;
  midden_store(&root_slots[number], rooted ? box_at(number) : NULL);
}

NOINLINE_TEST static void box_new(int number) {
  struct box *box = midden_alloc_type(&box_type);
  assert_non_null(box);
  box->number = ~(uintptr_t)number;
  shadows[number] = (struct shadow){.hidden = test_hide(box), .argument = NOBODY};
  for (int i = 0; i < BOX_SLOTS; i++) shadows[number].slots[i] = NOBODY;
  box_root(number, true);
}

NOINLINE_TEST static void box_link(int from, int slot, int to) {
  shadows[from].slots[slot] = to;
  midden_store(&box_at(from)->slots[slot], to == NOBODY ? NULL : box_at(to));
}

/* What the box itself says. */
NOINLINE_TEST static int box_number(int number) { return (int)~box_at(number)->number; }

NOINLINE_TEST static void box_drop(int number) { box_root(number, false); }

NOINLINE_TEST static void note_finalizer(void *object, void *argument) {
  struct box *box = object;
  int number = (int)~box->number;
  REQUIRE(number >= 0 && number < BOXES && test_hide(box) == shadows[number].hidden, "finalizer called for %p", object);
  uintptr_t expected = shadows[number].argument == NOBODY ? 0 : ~shadows[shadows[number].argument].hidden;
  REQUIRE((uintptr_t)argument == expected, "finalizer of box %d called with %p", number, argument);
  shadows[number].has_finalizer = shadows[number].queued = false;
  shadows[number].argument = NOBODY;
  shadows[number].runs++;
  finalized[finalized_count++ % BOXES] = number;
}

NOINLINE_TEST static void box_finalizer(int number, enum midden_finalizer_order order, int argument) {
  void *given = argument == NOBODY ? NULL : box_at(argument);
  assert_int_equal(midden_finalizer_set(box_at(number), note_finalizer, given, order, NULL, NULL), 0);
  shadows[number].has_finalizer = true;
  shadows[number].order = order;
  shadows[number].argument = argument;
}

NOINLINE_TEST static void box_weak(int number) {
  struct shadow *shadow = &shadows[number];
  shadow->before = shadow->after = (void *)shadow->hidden;
  assert_int_equal(midden_weak_link(&shadow->before, box_at(number), MIDDEN_WEAK_BEFORE_FINALIZERS), 0);
  assert_int_equal(midden_weak_link(&shadow->after, box_at(number), MIDDEN_WEAK_AFTER_FINALIZERS), 0);
}

/* A box with a finalizer and both weak links. */
static void box_armed(int number, enum midden_finalizer_order order) {
  box_new(number);
  box_finalizer(number, order, NOBODY);
  box_weak(number);
}

NOINLINE_TEST static size_t run_finalizers(size_t most) {
  test_scrub_stack();
  return midden_finalizers_run(most);
}

/* Collects, runs what is ready, and returns how many that were. */
static size_t collect_and_run(void) {
  test_collect_clean();
  size_t count = run_finalizers(SIZE_MAX);
  test_scrub_stack();
  return count;
}

static int start_test(void **state) {
  (void)state;
  midden_set_finalizer_notify(NULL, NULL);
  midden_clear_range(root_slots, BOXES);
  /* Links to boxes of the last test end with it. */
  for (int i = 0; i < BOXES; i++) {
    if (shadows[i].before != NULL) midden_weak_unlink(&shadows[i].before, MIDDEN_WEAK_BEFORE_FINALIZERS);
    if (shadows[i].after != NULL) midden_weak_unlink(&shadows[i].after, MIDDEN_WEAK_AFTER_FINALIZERS);
  }
  midden_finalizers_ready_all();
  midden_finalizers_run(SIZE_MAX);
  test_collect_clean();
  for (int i = 0; i < BOXES; i++) shadows[i] = (struct shadow){.argument = NOBODY};
  finalized_count = 0;
  return 0;
}

static void check_order(const int *expected, size_t count) {
  assert_int_equal(finalized_count, count);
  for (size_t i = 0; i < count; i++) assert_int_equal(finalized[i], expected[i]);
}

/* ---- one rule each ---- */

static void test_runs_once_when_unreachable(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_ORDERED);
  assert_int_equal(collect_and_run(), 0);
  assert_false(midden_finalizers_ready());
  box_drop(0);
  test_collect_clean();
  assert_true(midden_finalizers_ready());
  assert_int_equal(shadows[0].runs, 0);
  assert_int_equal(run_finalizers(SIZE_MAX), 1);
  assert_int_equal(shadows[0].runs, 1);
  assert_int_equal(collect_and_run(), 0);
  assert_null(shadows[0].after);
}

static void test_ordered_chain(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++) box_armed(i, MIDDEN_FINALIZE_ORDERED);
  /* 0 -> 1 -> plain 10 -> 2, 3 -> 4 */
  box_new(10);
  box_link(0, 0, 1);
  box_link(1, 1, 10);
  box_link(10, 2, 2);
  box_link(3, 3, 4);
  for (int i = 0; i < 5; i++) box_drop(i);
  box_drop(10);
  assert_int_equal(collect_and_run(), 2); /* 0 and 3 */
  assert_int_equal(shadows[0].runs + shadows[3].runs, 2);
  assert_non_null(shadows[1].after);
  assert_int_equal(collect_and_run(), 2); /* 1 and 4 */
  assert_int_equal(shadows[1].runs + shadows[4].runs, 2);
  assert_int_equal(collect_and_run(), 1);
  assert_int_equal(shadows[2].runs, 1);
  assert_int_equal(collect_and_run(), 0);
  for (int i = 0; i < 5; i++) assert_null(shadows[i].after);
}

/* A cycle is never finalized, nor is what it reaches; what leads into it is. */
static void test_ordered_cycle(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++) box_armed(i, MIDDEN_FINALIZE_ORDERED);
  box_link(0, 0, 1);
  box_link(1, 0, 0);
  box_link(1, 1, 2);
  box_link(3, 0, 0);
  box_link(4, 0, 4);
  for (int i = 0; i < 5; i++) box_drop(i);
  for (int round = 0; round < 4; round++) collect_and_run();
  check_order((const int[]){3}, 1);
  for (int i = 0; i < 5; i++) assert_true((shadows[i].after == NULL) == (i == 3));
  /* The cycle broken by hand: all of it goes. */
  box_link(1, 0, NOBODY);
  box_link(4, 0, NOBODY);
  for (int round = 0; round < 4; round++) collect_and_run();
  assert_int_equal(finalized_count, 5);
  assert_null(shadows[2].after);
}

static void test_ignore_self(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_IGNORE_SELF);
  box_link(0, 0, 0);
  box_link(0, 3, 0);
  box_armed(1, MIDDEN_FINALIZE_IGNORE_SELF); /* by way of a plain box: a cycle all the same */
  box_new(2);
  box_link(1, 0, 2);
  box_link(2, 0, 1);
  box_armed(3, MIDDEN_FINALIZE_IGNORE_SELF); /* before what it reaches */
  box_armed(4, MIDDEN_FINALIZE_IGNORE_SELF);
  box_link(3, 0, 3);
  box_link(3, 1, 4);
  for (int i = 0; i < 5; i++) box_drop(i);
  assert_int_equal(collect_and_run(), 2);
  assert_int_equal(shadows[0].runs + shadows[3].runs, 2);
  assert_int_equal(collect_and_run(), 1);
  assert_int_equal(shadows[4].runs, 1);
  assert_int_equal(collect_and_run(), 0);
  assert_int_equal(shadows[1].runs, 0);
}

enum { LARGE_WORDS = 16384, LATER = 9000 };

static unsigned large_runs;

NOINLINE_TEST static void count_large(void *object, void *argument) {
  (void)object;
  (void)argument;
  large_runs++;
}

/* Which refers to itself, or to an object that refers to it, far behind its beginning. */
NOINLINE_TEST static void make_large(const struct midden_type *type, bool by_another) {
  void **object = type != NULL ? midden_alloc_array(type, LARGE_WORDS) : midden_alloc(LARGE_WORDS * sizeof(void *));
  void **other = by_another ? midden_alloc(sizeof(void *)) : object;
  assert_true(object != NULL && other != NULL);
  midden_store(&object[LATER], other);
  if (by_another) midden_store(other, object);
  assert_int_equal(midden_finalizer_set(object, count_large, NULL, MIDDEN_FINALIZE_IGNORE_SELF, NULL, NULL), 0);
}

/* Large objects are scanned in pieces; here none waits until the object is not hidden any more. */
static void test_ignore_self_of_large_objects(void **state) {
  (void)state;
  static const uint64_t pointers[] = {1};
  static const struct midden_type word = {.name = "word", .size = sizeof(void *), .pointers = pointers};
  large_runs = 0;
  make_large(NULL, false);
  make_large(&word, false);
  make_large(NULL, true);
  make_large(&word, true);
  collect_and_run();
  assert_int_equal(large_runs, 2);
  collect_and_run();
  assert_int_equal(large_runs, 2);
}

static void test_unordered_cycle(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) box_armed(i, MIDDEN_FINALIZE_UNORDERED);
  for (int i = 0; i < 3; i++) box_link(i, 0, (i + 1) % 3);
  box_link(2, 1, 3);
  for (int i = 0; i < 4; i++) box_drop(i);
  assert_int_equal(collect_and_run(), 4);
  assert_int_equal(collect_and_run(), 0);
  for (int i = 0; i < 4; i++) assert_null(shadows[i].after);
}

/* An ordered box comes before an unordered one that it reaches; an unordered one claims nothing. */
static void test_mixed_orders(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_ORDERED);
  box_armed(1, MIDDEN_FINALIZE_UNORDERED);
  box_link(0, 0, 1);
  box_armed(2, MIDDEN_FINALIZE_UNORDERED);
  box_armed(3, MIDDEN_FINALIZE_ORDERED);
  box_link(2, 0, 3);
  for (int i = 0; i < 4; i++) box_drop(i);
  assert_int_equal(collect_and_run(), 3);
  assert_int_equal(shadows[1].runs, 0);
  assert_int_equal(collect_and_run(), 1);
  assert_int_equal(shadows[1].runs, 1);
}

static void test_unreachable_waits_for_all_others(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_UNORDERED);
  box_armed(1, MIDDEN_FINALIZE_UNREACHABLE);
  box_link(0, 0, 1);
  box_armed(2, MIDDEN_FINALIZE_ORDERED);
  box_armed(3, MIDDEN_FINALIZE_UNREACHABLE);
  box_link(2, 0, 3);
  box_armed(4, MIDDEN_FINALIZE_UNREACHABLE);
  for (int i = 0; i < 5; i++) box_drop(i);
  assert_int_equal(collect_and_run(), 3);
  assert_int_equal(shadows[0].runs + shadows[2].runs + shadows[4].runs, 3);
  assert_int_equal(collect_and_run(), 2);
  assert_int_equal(shadows[1].runs + shadows[3].runs, 2);
}

/* While the unordered box waits in the queue, what it reaches is as good as alive. */
static void test_unreachable_waits_for_the_queue(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_UNORDERED);
  box_armed(1, MIDDEN_FINALIZE_UNREACHABLE);
  box_link(0, 0, 1);
  box_drop(0);
  box_drop(1);
  for (int i = 0; i < 3; i++) test_collect_clean();
  assert_int_equal(run_finalizers(SIZE_MAX), 1);
  check_order((const int[]){0}, 1);
  assert_int_equal(collect_and_run(), 1);
}

NOINLINE_TEST static void set_and_replace(void) {
  midden_finalizer_fn *old_function = note_finalizer;
  void *old_argument = shadows, *object = box_at(0);
  assert_int_equal(midden_finalizer_set(object, NULL, NULL, MIDDEN_FINALIZE_ORDERED, &old_function, &old_argument), 0);
  assert_true(old_function == NULL && old_argument == NULL);
  box_finalizer(0, MIDDEN_FINALIZE_ORDERED, 1);
  assert_int_equal(
      midden_finalizer_set(object, note_finalizer, NULL, MIDDEN_FINALIZE_UNORDERED, &old_function, &old_argument), 0);
  assert_true(old_function == note_finalizer && old_argument == box_at(1));
  assert_int_equal(midden_finalizer_set(object, NULL, NULL, MIDDEN_FINALIZE_ORDERED, &old_function, &old_argument), 0);
  assert_true(old_function == note_finalizer && old_argument == NULL);
  shadows[0].argument = NOBODY;
}

static void test_replace_and_clear(void **state) {
  (void)state;
  box_new(0);
  box_new(1);
  box_weak(0);
  box_weak(1);
  set_and_replace();
  box_drop(0);
  box_drop(1);
  assert_int_equal(collect_and_run(), 0);
  assert_null(shadows[0].after);
  assert_null(shadows[1].after); /* the replaced argument is no root any more */
}

NOINLINE_TEST static void set_where_nothing_is(void) {
  char *object = (char *)box_at(0);
  assert_int_equal(midden_finalizer_set(NULL, note_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL), -EINVAL);
  assert_int_equal(midden_finalizer_set(object + 8, note_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL),
                   -EINVAL);
  assert_int_equal(midden_finalizer_set(&object, note_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL), -EINVAL);
  assert_int_equal(midden_finalizer_set(shadows, NULL, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL), -EINVAL);
}

static void test_set_refuses_what_is_no_object(void **state) {
  (void)state;
  box_new(0);
  set_where_nothing_is();
}

static void test_argument_is_a_root(void **state) {
  (void)state;
  box_new(0);
  box_finalizer(0, MIDDEN_FINALIZE_ORDERED, NOBODY);
  box_new(1);
  box_new(2);
  box_link(1, 0, 2);
  box_weak(1);
  box_weak(2);
  box_finalizer(0, MIDDEN_FINALIZE_ORDERED, 1);
  box_drop(1);
  box_drop(2);
  for (int i = 0; i < 3; i++) test_collect_clean();
  assert_true(shadows[1].before != NULL && shadows[2].before != NULL);
  box_drop(0);
  for (int i = 0; i < 3; i++) test_collect_clean(); /* ready, not run: the argument still counts */
  assert_true(shadows[1].before != NULL && shadows[2].before != NULL);
  assert_int_equal(run_finalizers(SIZE_MAX), 1);
  test_collect_clean();
  assert_true(shadows[1].before == NULL && shadows[2].after == NULL);
}

/* An object that its own finalizer's argument reaches is never unreachable. */
static void test_argument_that_reaches_the_object(void **state) {
  (void)state;
  box_new(0);
  box_new(1);
  box_link(1, 0, 0);
  box_finalizer(0, MIDDEN_FINALIZE_UNORDERED, 1);
  box_drop(0);
  box_drop(1);
  for (int i = 0; i < 3; i++) assert_int_equal(collect_and_run(), 0);
}

NOINLINE_TEST static void resurrect(void *object, void *argument) {
  int number = (int)~((struct box *)object)->number;
  (void)argument;
  shadows[number].runs++;
  box_root(number, true);
}

NOINLINE_TEST static void set_resurrecting(int number) {
  assert_int_equal(midden_finalizer_set(box_at(number), resurrect, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL), 0);
}

static void test_resurrection(void **state) {
  (void)state;
  box_new(0);
  box_new(1);
  box_weak(0);
  box_weak(1);
  box_link(0, 0, 1);
  set_resurrecting(0);
  box_drop(0);
  box_drop(1);
  assert_int_equal(collect_and_run(), 1);
  assert_true(shadows[0].before == NULL && shadows[1].before == NULL); /* only a finalizer reached them */
  for (int i = 0; i < 3; i++) assert_int_equal(collect_and_run(), 0);
  assert_true(shadows[0].after != NULL && shadows[1].after != NULL);
  assert_int_equal(box_number(0), 0);
  set_resurrecting(0);
  box_drop(0);
  assert_int_equal(collect_and_run(), 1);
  box_drop(0);
  assert_int_equal(collect_and_run(), 0);
  assert_int_equal(shadows[0].runs, 2);
  assert_true(shadows[0].after == NULL && shadows[1].after == NULL);
}

NOINLINE_TEST static void register_again(void *object, void *argument) {
  note_finalizer(object, argument);
  int number = (int)~((struct box *)object)->number;
  if (shadows[number].runs < 3) {
    int error = midden_finalizer_set(object, register_again, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
    REQUIRE(error == 0, "midden_finalizer_set: %d", error);
  }
  for (int i = 0; i < 100; i++) REQUIRE(midden_alloc((size_t)i * 16) != NULL, "out of memory");
  midden_collect();
}

NOINLINE_TEST static void set_registering_again(int number) {
  assert_int_equal(midden_finalizer_set(box_at(number), register_again, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL), 0);
}

/* A finalizer may allocate, collect, and register its object again. */
static void test_finalizer_uses_the_heap(void **state) {
  (void)state;
  box_new(0);
  box_weak(0);
  set_registering_again(0);
  box_drop(0);
  for (int i = 0; i < 6; i++) collect_and_run();
  assert_int_equal(shadows[0].runs, 3);
  assert_null(shadows[0].after);
}

static void test_run_at_most(void **state) {
  (void)state;
  for (int i = 0; i < 10; i++) {
    box_armed(i, MIDDEN_FINALIZE_UNORDERED);
    box_drop(i);
  }
  test_collect_clean();
  assert_int_equal(test_stats().finalizers_ready, 10);
  uint64_t run_before = test_stats().finalizers_run;
  assert_int_equal(run_finalizers(0), 0);
  assert_int_equal(run_finalizers(3), 3);
  assert_int_equal(finalized_count, 3);
  test_collect_clean(); /* those that wait outlive a collection */
  assert_true(midden_finalizers_ready());
  assert_int_equal(run_finalizers(6), 6);
  assert_int_equal(run_finalizers(6), 1);
  assert_false(midden_finalizers_ready());
  assert_int_equal(run_finalizers(6), 0);
  assert_int_equal(test_stats().finalizers_run - run_before, 10);
}

static void test_ready_all(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_ORDERED);
  box_armed(1, MIDDEN_FINALIZE_ORDERED);
  box_armed(2, MIDDEN_FINALIZE_UNREACHABLE);
  box_link(0, 0, 1);
  box_link(1, 0, 0);
  box_drop(0);
  box_drop(1);
  midden_finalizers_ready_all();
  assert_true(midden_finalizers_ready());
  assert_int_equal(run_finalizers(SIZE_MAX), 3);
  assert_int_equal(box_number(2), 2); /* was reachable, lives on */
  box_drop(2);
  assert_int_equal(collect_and_run(), 0);
  for (int i = 0; i < 3; i++) assert_null(shadows[i].after);
}

struct notes {
  unsigned calls;
  size_t ran;
  bool run_now;
};

static void take_note(void *argument) {
  struct notes *notes = argument;
  notes->calls++;
  REQUIRE(midden_finalizers_ready(), "told of finalizers, but none is ready");
  if (notes->run_now) notes->ran += midden_finalizers_run(SIZE_MAX);
}

static void test_notify(void **state) {
  (void)state;
  static struct notes notes;
  notes = (struct notes){0};
  midden_set_finalizer_notify(take_note, &notes);
  box_armed(0, MIDDEN_FINALIZE_ORDERED);
  box_armed(1, MIDDEN_FINALIZE_ORDERED);
  test_collect_clean();
  assert_int_equal(notes.calls, 0);
  box_drop(0);
  test_collect_clean();
  assert_int_equal(notes.calls, 1);
  assert_int_equal(shadows[0].runs, 0);
  notes.run_now = true;
  box_drop(1);
  test_collect_clean();
  assert_int_equal(notes.calls, 2);
  assert_int_equal(notes.ran, 2);
  midden_set_finalizer_notify(NULL, NULL);
}

NOINLINE_TEST static void free_box(int number) { midden_free(box_at(number)); }

/* midden_free takes finalizer and weak links along; what the finalizer's argument kept alive goes too. */
static void test_free_with_finalizer(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_ORDERED);
  box_new(1);
  box_weak(1);
  box_finalizer(0, MIDDEN_FINALIZE_ORDERED, 1);
  box_drop(1);
  box_drop(0);
  free_box(0);
  assert_true(shadows[0].before == NULL && shadows[0].after == NULL);
  for (int i = 0; i < 2; i++) assert_int_equal(collect_and_run(), 0);
  midden_finalizers_ready_all();
  assert_int_equal(run_finalizers(SIZE_MAX), 0);
  assert_null(shadows[1].after);
}

/* ---- weak links ---- */

static void test_weak_before_and_after(void **state) {
  (void)state;
  box_armed(0, MIDDEN_FINALIZE_ORDERED);
  box_new(1);
  box_weak(1);
  box_link(0, 0, 1);
  box_new(2);
  box_weak(2);
  test_collect_clean();
  for (int i = 0; i < 3; i++) assert_true(shadows[i].before != NULL && shadows[i].after != NULL);
  for (int i = 0; i < 3; i++) box_drop(i);
  test_collect_clean();
  assert_true(shadows[2].before == NULL && shadows[2].after == NULL);
  for (int i = 0; i < 2; i++) assert_true(shadows[i].before == NULL && shadows[i].after != NULL);
  run_finalizers(SIZE_MAX);
  test_collect_clean();
  for (int i = 0; i < 2; i++) assert_null(shadows[i].after);
}

NOINLINE_TEST static void check_link_answers(void **links) {
  const enum midden_weak_when before = MIDDEN_WEAK_BEFORE_FINALIZERS, after = MIDDEN_WEAK_AFTER_FINALIZERS;
  void *const value = (void *)test_hide(links), *target = box_at(0), *other = box_at(1);
  for (int i = 0; i < 4; i++) links[i] = value;
  assert_int_equal(midden_weak_unlink(&links[0], before), -ENOENT);
  assert_int_equal(midden_weak_link(&links[0], target, before), 0);
  assert_int_equal(midden_weak_unlink(&links[0], after), -ENOENT);
  assert_int_equal(midden_weak_link(&links[0], other, before), -EEXIST); /* now follows box 1 */
  assert_int_equal(midden_weak_link((void **)((char *)&links[1] + 1), target, before), -EINVAL);
  assert_int_equal(midden_weak_link(&links[1], &links[1], before), -EINVAL);
  assert_int_equal(midden_weak_link(&links[1], target, after), 0);
  assert_int_equal(midden_weak_move(&links[2], &links[3], after), -ENOENT);
  assert_int_equal(midden_weak_link(&links[2], target, after), 0);
  assert_int_equal(midden_weak_move(&links[1], &links[2], after), -EEXIST);
  assert_int_equal(midden_weak_move(&links[1], &links[3], after), 0);
  assert_int_equal(midden_weak_unlink(&links[2], after), 0);
  for (int i = 0; i < 4; i++) assert_ptr_equal(links[i], value);
}

static void test_weak_link_move_unlink(void **state) {
  (void)state;
  void **links = malloc(4 * sizeof(*links));
  box_new(0);
  box_new(1);
  check_link_answers(links);
  box_drop(0);
  test_collect_clean();
  /* 0 follows box 1, 1 was moved to 3, 2 was unlinked. */
  assert_true(links[0] != NULL && links[1] != NULL && links[2] != NULL);
  assert_null(links[3]);
  box_drop(1);
  test_collect_clean();
  assert_null(links[0]);
  assert_int_equal(midden_weak_unlink(&links[0], MIDDEN_WEAK_BEFORE_FINALIZERS), -ENOENT);
  free(links);
}

enum { HOLDERS = 500, FILLERS = 12 * HOLDERS, HOLDER_WORDS = 6, APART = 10, TARGET = 0 };

/* Objects without pointers that hold weak links to one box; `freed` of them are freed, the others dropped.  Returns others of
 * their kind and size, between them: their spans stay what they are. */
NOINLINE_TEST static void **make_holders(uintptr_t *hidden, size_t freed) {
  void **others = midden_alloc((HOLDERS / APART + 1) * sizeof(*others));
  void ***holders = midden_alloc(HOLDERS * sizeof(*holders));
  for (size_t i = 0; i < HOLDERS; i++) {
    if (i % APART == 0) others[i / APART] = midden_alloc_data(HOLDER_WORDS * sizeof(void *));
    void **holder = midden_alloc_data(HOLDER_WORDS * sizeof(void *));
    holders[i] = holder;
    hidden[i] = test_hide(holder);
    for (int word = 0; word < HOLDER_WORDS; word++) {
      enum midden_weak_when when = word % 2 == 0 ? MIDDEN_WEAK_BEFORE_FINALIZERS : MIDDEN_WEAK_AFTER_FINALIZERS;
      holder[word] = (void *)shadows[TARGET].hidden;
      assert_int_equal(midden_weak_link(&holder[word], box_at(TARGET), when), 0);
    }
  }
  for (size_t i = 0; i < freed; i++) midden_free(holders[i]);
  midden_free(holders);
  return others;
}

/* Fresh objects where the holders were, filled with a pattern, held by a list. */
NOINLINE_TEST static uintptr_t **fill_holes(size_t *reused, const uintptr_t *hidden) {
  uintptr_t **objects = midden_alloc(FILLERS * sizeof(*objects));
  for (size_t i = 0; i < FILLERS; i++) {
    objects[i] = midden_alloc_kind(MIDDEN_DATA, HOLDER_WORDS * sizeof(void *));
    for (int word = 0; word < HOLDER_WORDS; word++) objects[i][word] = 0x5a5a5a5a5a5a5a5a;
    for (size_t j = 0; j < HOLDERS; j++) *reused += hidden[j] == test_hide(objects[i]);
  }
  return objects;
}

/* Broke elsewhere: a link in reclaimed memory was cleared when its target died, in the middle of another object. */
static void test_link_in_a_dead_object(void **state) {
  (void)state;
  for (size_t freed = 0; freed <= HOLDERS; freed += HOLDERS) {
    uintptr_t *hidden = calloc(HOLDERS, sizeof(*hidden));
    size_t reused = 0;
    box_new(TARGET);
    box_weak(TARGET);
    void **others = make_holders(hidden, freed);
    test_collect_clean();
    test_collect_clean();
    uintptr_t **objects = fill_holes(&reused, hidden);
    assert_true(midden_owns(others[0]));
    assert_true(reused > HOLDERS / 2 || guard_active); /* guarded, empty spans go back to the page heap at once */
    box_drop(TARGET);
    test_collect_clean();
    assert_null(shadows[TARGET].after);
    for (size_t i = 0; i < FILLERS; i++) {
      for (int word = 0; word < HOLDER_WORDS; word++) assert_true(objects[i][word] == 0x5a5a5a5a5a5a5a5a);
    }
    free(hidden);
  }
}

/* A link in a living object is cleared; its other words are not. */
static void test_link_in_a_living_object(void **state) {
  (void)state;
  box_new(0);
  void **holder = midden_alloc_data(64);
  for (int i = 0; i < 8; i++) holder[i] = (void *)shadows[0].hidden;
  assert_int_equal(midden_weak_link(&holder[3], test_unhide(shadows[0].hidden), MIDDEN_WEAK_AFTER_FINALIZERS), 0);
  box_drop(0);
  test_collect_clean();
  for (int i = 0; i < 8; i++) assert_true((holder[i] == NULL) == (i == 3));
}

/* ---- random graphs ---- */

/* Marks what a box reaches, not the box; `skip_self` passes over its own references to itself. */
static void oracle_mark_below(int number, bool skip_self, size_t flag) {
  static int stack[BOXES * (BOX_SLOTS + 1)];
  size_t depth = 0;
  stack[depth++] = number;
  bool first = true;
  while (depth != 0) {
    int from = stack[--depth];
    for (int i = 0; i < BOX_SLOTS; i++) {
      int to = shadows[from].slots[i];
      if (to == NOBODY || (first && skip_self && to == number)) continue;
      bool *mark = (bool *)((char *)&shadows[to] + flag);
      if (!*mark) stack[depth++] = to;
      *mark = true;
    }
    first = false;
  }
}

static void oracle_mark(int number, size_t flag) {
  bool *mark = (bool *)((char *)&shadows[number] + flag);
  if (*mark) return;
  *mark = true;
  oracle_mark_below(number, false, flag);
}

static bool oracle_is_candidate(const struct shadow *shadow) {
  return shadow->hidden != 0 && shadow->has_finalizer && !shadow->queued && !shadow->in_r;
}

/* Computes R, M and the boxes that may become ready now; returns how many. */
static size_t oracle_collect(bool *ready, int count) {
  const size_t r = offsetof(struct shadow, in_r), m = offsetof(struct shadow, in_m);
  for (int i = 0; i < count; i++) shadows[i].in_r = shadows[i].in_m = ready[i] = false;
  for (int i = 0; i < count; i++) {
    if (shadows[i].hidden == 0) continue;
    if (shadows[i].rooted || shadows[i].queued) oracle_mark(i, r);
    if (shadows[i].argument != NOBODY) oracle_mark(shadows[i].argument, r);
  }
  for (int i = 0; i < count; i++) shadows[i].in_m = shadows[i].in_r;
  for (int i = 0; i < count; i++) {
    if (!oracle_is_candidate(&shadows[i]) || shadows[i].order == MIDDEN_FINALIZE_UNORDERED) continue;
    oracle_mark_below(i, shadows[i].order == MIDDEN_FINALIZE_IGNORE_SELF, m);
  }
  for (int i = 0; i < count; i++) ready[i] = oracle_is_candidate(&shadows[i]) && !shadows[i].in_m;
  for (int i = 0; i < count; i++) {
    if (ready[i] && shadows[i].order != MIDDEN_FINALIZE_UNREACHABLE) oracle_mark(i, m);
  }
  size_t total = 0;
  for (int i = 0; i < count; i++) {
    if (ready[i] && shadows[i].order == MIDDEN_FINALIZE_UNREACHABLE && shadows[i].in_m) ready[i] = false;
    total += ready[i];
  }
  for (int i = 0; i < count; i++) {
    if (ready[i]) oracle_mark(i, m);
  }
  return total;
}

NOINLINE_TEST static void random_graph_make(int count) {
  for (int i = 0; i < count; i++) box_new(i);
  size_t edges = (size_t)count * (1 + rng_below(&test_rng, 3)) / 2;
  for (size_t i = 0; i < edges; i++) {
    int from = (int)rng_below(&test_rng, (size_t)count), to = (int)rng_below(&test_rng, (size_t)count);
    if (rng_one_in(&test_rng, 20)) to = from;
    bool forward = rng_below(&test_rng, 10) != 0; /* few cycles, or little would ever be finalized */
    bool turn = forward && from > to;
    box_link(turn ? to : from, (int)rng_below(&test_rng, BOX_SLOTS), turn ? from : to);
  }
  for (int i = 0; i < count; i++) {
    box_weak(i);
    enum midden_finalizer_order order = (enum midden_finalizer_order)rng_below(&test_rng, 4);
    bool argument = rng_one_in(&test_rng, 30);
    if (rng_one_in(&test_rng, 2)) {
      box_finalizer(i, order, argument ? (int)rng_below(&test_rng, (size_t)count) : NOBODY);
    }
  }
}

static void check_weak_links(int count, size_t *late) {
  for (int i = 0; i < count; i++) {
    struct shadow *shadow = &shadows[i];
    if (shadow->hidden == 0) continue;
    shadow->left_r |= !shadow->in_r;
    shadow->left_m |= !shadow->in_m;
    if (shadow->left_r) {
      *late += shadow->before != NULL;
    } else {
      REQUIRE(shadow->before != NULL, "weak link of box %d cleared before its death", i);
    }
    if (shadow->left_m) {
      *late += shadow->after != NULL;
    } else {
      REQUIRE(shadow->after != NULL, "long weak link of box %d cleared before its death", i);
    }
  }
}

/* Forgets boxes that are gone: by now nothing that lives refers to them. */
static void bury(int count) {
  for (int i = 0; i < count; i++) {
    if (shadows[i].hidden == 0 || shadows[i].after != NULL || shadows[i].has_finalizer) continue;
    shadows[i].hidden = 0;
    for (int slot = 0; slot < BOX_SLOTS; slot++) shadows[i].slots[slot] = NOBODY;
  }
}

/* Runs some or all of what is ready, and checks each against the oracle's set, which holds those queued earlier too. */
static void random_graph_run(bool *may_run, bool all) {
  size_t first = finalized_count;
  size_t most = all ? SIZE_MAX : rng_below(&test_rng, 100);
  size_t ran = run_finalizers(most);
  REQUIRE(ran == finalized_count - first, "midden_finalizers_run returned %zu, ran %zu", ran, finalized_count - first);
  for (size_t i = first; i < finalized_count; i++) {
    int number = finalized[i];
    REQUIRE(may_run[number], "box %d, order %d, was finalized too early", number, (int)shadows[number].order);
    may_run[number] = false;
  }
}

NOINLINE_TEST static void random_graph_round(int count, bool *queue, bool *ready, size_t *late) {
  size_t expected = oracle_collect(ready, count);
  size_t waiting = test_stats().finalizers_ready;
  test_collect_clean();
  size_t got = test_stats().finalizers_ready - waiting;
  REQUIRE(got <= expected, "%zu finalizers became ready, at most %zu may", got, expected);
  *late += expected - got;
  for (int i = 0; i < count; i++) {
    queue[i] |= ready[i];
    shadows[i].queued |= ready[i];
  }
  check_weak_links(count, late);
  random_graph_run(queue, got != expected);
  /* Some came late: who is still in the oracle's queue after all were run never was in the real one. */
  for (int i = 0; i < count && got != expected; i++) queue[i] = shadows[i].queued = false;
  bury(count);
}

/* Allowed: an object kept alive by a stale word, and whatever hangs on it. */
enum { LATE_PER_ROUND = 16 };

static void random_graph(int count) {
  bool *queue = calloc((size_t)count, sizeof(*queue)), *ready = calloc((size_t)count, sizeof(*ready));
  size_t late = 0, rounds = 0;
  random_graph_make(count);
  for (int drops = 0; drops < 4; drops++) {
    for (int i = 0; i < count; i++) {
      if (shadows[i].rooted && (drops == 3 || rng_one_in(&test_rng, 2))) box_drop(i);
    }
    for (int i = 0; i < 5; i++) {
      test_scrub_stack(); /* no frame of a round has a hole in which a box is left over */
      random_graph_round(count, queue, ready, &late);
    }
  }
  while (oracle_collect(ready, count) != 0 || midden_finalizers_ready()) {
    test_scrub_stack();
    random_graph_round(count, queue, ready, &late);
    REQUIRE(++rounds < 5 * BOXES, "finalizers are late for ever");
  }
  REQUIRE(late <= LATE_PER_ROUND * (rounds + 20), "%zu deaths came late", late);
  free(queue);
  free(ready);
}

static void test_random_graphs(void **state) {
  size_t steps = test_steps(500);
  for (size_t i = 0; i < steps; i++) {
    start_test(state);
    random_graph(10 + (int)rng_below(&test_rng, i % 8 == 0 ? BOXES - 10 : 200));
  }
}

/* ---- start ---- */

int main(void) {
  test_rng = test_start("test_finalizers");
  shadows = calloc(BOXES, sizeof(*shadows));
  root_slots = calloc(BOXES, sizeof(*root_slots));
  finalized = calloc(BOXES, sizeof(*finalized));
  REQUIRE(shadows != NULL && root_slots != NULL && finalized != NULL, "out of memory");
  REQUIRE(midden_root_add(root_slots, root_slots + BOXES) == 0, "midden_root_add");
  midden_set_percent(-1); /* only the collections that a test asks for */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_runs_once_when_unreachable, start_test),
      cmocka_unit_test_setup(test_ordered_chain, start_test),
      cmocka_unit_test_setup(test_ordered_cycle, start_test),
      cmocka_unit_test_setup(test_ignore_self, start_test),
      cmocka_unit_test_setup(test_ignore_self_of_large_objects, start_test),
      cmocka_unit_test_setup(test_unordered_cycle, start_test),
      cmocka_unit_test_setup(test_mixed_orders, start_test),
      cmocka_unit_test_setup(test_unreachable_waits_for_all_others, start_test),
      cmocka_unit_test_setup(test_unreachable_waits_for_the_queue, start_test),
      cmocka_unit_test_setup(test_replace_and_clear, start_test),
      cmocka_unit_test_setup(test_set_refuses_what_is_no_object, start_test),
      cmocka_unit_test_setup(test_argument_is_a_root, start_test),
      cmocka_unit_test_setup(test_argument_that_reaches_the_object, start_test),
      cmocka_unit_test_setup(test_resurrection, start_test),
      cmocka_unit_test_setup(test_finalizer_uses_the_heap, start_test),
      cmocka_unit_test_setup(test_run_at_most, start_test),
      cmocka_unit_test_setup(test_ready_all, start_test),
      cmocka_unit_test_setup(test_notify, start_test),
      cmocka_unit_test_setup(test_free_with_finalizer, start_test),
      cmocka_unit_test_setup(test_weak_before_and_after, start_test),
      cmocka_unit_test_setup(test_weak_link_move_unlink, start_test),
      cmocka_unit_test_setup(test_link_in_a_dead_object, start_test),
      cmocka_unit_test_setup(test_link_in_a_living_object, start_test),
      cmocka_unit_test_setup(test_random_graphs, start_test),
  };
  return test_run_group(tests);
}
