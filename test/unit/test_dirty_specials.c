/* Dirty-page mode: what nothing but arguments of finalizers and cleanups lead to is marked beside the program, as are values of
 * ephemerons and what the queue of calls that are due leads to.  The stop finds it marked, and looks at what is new alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/calls.h"
#include "gc/collector.h"
#include "gc/finalizer.h"
#include "gc/rounds.h"
#include "gc/special.h"
#include "mutator/world.h"
#include "span/guard.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { NODES = 32768, SOME_CALLS = NODES / 16 };

struct node {
  struct node *next;
  uintptr_t more[7];
};

static midden_kind kind;
static void *volatile holder;

static size_t calls_beside, calls_stopped; /* atomic */

static void trace(void *object, size_t bytes, struct midden_tracer *tracer, void *argument) {
  (void)bytes, (void)argument;
  atomic_add_relaxed(world_is_stopped() ? &calls_stopped : &calls_beside, (size_t)1);
  midden_trace(tracer, ((const struct node *)object)->next);
}

static struct node *make_list(void) {
  struct node *list = NULL;
  for (int i = 0; i < NODES; i++) {
    struct node *node = midden_alloc_kind(kind, sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    node->next = list;
    list = node;
  }
  return list;
}

static void finalize(void *object, void *argument) { (void)object, (void)argument; }
static void clean_up(void *argument) { (void)argument; }

NOINLINE_TEST static void hang_on_finalizer(void) {
  int error = midden_finalizer_set(holder, finalize, make_list(), MIDDEN_FINALIZE_ORDERED, NULL, NULL);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
}

NOINLINE_TEST static void hang_on_cleanup(void) {
  int error = midden_cleanup_add(holder, clean_up, make_list(), NULL);
  REQUIRE(error == 0, "midden_cleanup_add: %d", error);
}

static void require_marked_beside(void (*hang)(void)) {
  holder = midden_alloc(64);
  hang();
  test_scrub_stack();
  for (int i = 0; i < 3; i++) {
    calls_beside = calls_stopped = 0;
    midden_collect();
    assert_in_range(calls_beside, NODES, SIZE_MAX);
    assert_in_range(calls_stopped, 0, SOME_CALLS);
  }
  holder = NULL;
}

static void what_a_finalizer_refers_to_is(void **state) {
  (void)state;
  require_marked_beside(hang_on_finalizer);
}

static void what_a_cleanup_refers_to_is(void **state) {
  (void)state;
  require_marked_beside(hang_on_cleanup);
}

/* ---- what is new ---- */

enum { MAGIC = 0x600d, MANY_CALLS = 1000 };

static size_t queue_beside, queue_stopped; /* atomic; how often it was marked */
static size_t sets_stopped;                /* atomic; whose records were looked at, to mark */
static size_t sets_settled;                /* atomic; likewise, to settle the dead */
static void (*act)(void);                  /* by the collector's thread in the next cycle, before its rounds */
static size_t intact;                      /* finalized objects */

/* The names are the linker's. */
uint64_t __real_calls_mark_roots(struct midden_tracer *tracer);
uint64_t __wrap_calls_mark_roots(struct midden_tracer *tracer);
void __real_special_filter(struct special_set *set, special_keep_fn *keep, void *argument);
void __wrap_special_filter(struct special_set *set, special_keep_fn *keep, void *argument);
void __real_rounds_run(struct cycle *running);
void __wrap_rounds_run(struct cycle *running);

uint64_t __wrap_calls_mark_roots(struct midden_tracer *tracer) {
  atomic_add_relaxed(world_is_stopped() ? &queue_stopped : &queue_beside, (size_t)1);
  return __real_calls_mark_roots(tracer);
}

void __wrap_special_filter(struct special_set *set, special_keep_fn *keep, void *argument) {
  size_t *count = collector_phase() == COLLECTOR_MARK ? &sets_stopped : &sets_settled;
  if (world_is_stopped()) atomic_add_relaxed(count, (size_t)1);
  __real_special_filter(set, keep, argument);
}

/* The one thread of the program waits for the collection: it is as good as stopped. */
void __wrap_rounds_run(struct cycle *running) {
  if (act != NULL) act();
  act = NULL;
  __real_rounds_run(running);
}

static bool is_intact(const uintptr_t *object) { return object == NULL || *object == MAGIC; }

static void look_at(void *object, void *argument) { intact += is_intact(object) && is_intact(argument); }

NOINLINE_TEST static uintptr_t *make_object(void) {
  uintptr_t *object = midden_alloc(64);
  REQUIRE(object != NULL, "out of memory");
  *object = MAGIC;
  return object;
}

NOINLINE_TEST static void add_finalizer(void *object, void *argument) {
  int error = midden_finalizer_set(object, look_at, argument, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
}

NOINLINE_TEST static void drop_with_finalizer(void) { add_finalizer(make_object(), NULL); }

NOINLINE_TEST static void fill_free_memory(void) {
  for (int i = 0; i < NODES; i++) memset(midden_alloc(64), 0xdd, 64);
}

static void require_intact(size_t least, size_t most) {
  test_collect_clean();
  fill_free_memory();
  intact = 0;
  size_t count = midden_finalizers_run(SIZE_MAX);
  assert_in_range(count, least, most);
  assert_int_equal(intact, count);
}

static void the_queue_is_marked_beside(void **state) {
  (void)state;
  holder = midden_alloc(4 << 20); /* smaller heaps are marked in a stop */
  test_collect_clean();
  midden_finalizers_run(SIZE_MAX); /* of the tests before */
  for (int i = 0; i < MANY_CALLS; i++) drop_with_finalizer();
  test_collect_clean();
  size_t count = test_stats().finalizers_ready;
  queue_beside = queue_stopped = 0;
  midden_collect();
  assert_in_range(count, MANY_CALLS - 100, MANY_CALLS); /* stale words may keep some until the next cycle */
  assert_int_equal(queue_beside, 1);
  assert_int_equal(queue_stopped, 0);
  require_intact(count, MANY_CALLS);
}

static void what_comes_to_it_late_is_marked(void **state) {
  (void)state;
  drop_with_finalizer();
  test_scrub_stack();
  act = finalizer_ready_all_stw;
  queue_stopped = 0;
  midden_collect();
  assert_int_equal(queue_stopped, 1);
  require_intact(1, 1);
}

/* In one set. */
static uintptr_t *objects[2]; /* roots */

/* No register of the test's own keeps them. */
NOINLINE_TEST static void make_with_finalizer(void) {
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) objects[i] = make_object();
  add_finalizer(objects[0], make_object());
}

NOINLINE_TEST static void add_second(void) { add_finalizer(objects[1], make_object()); }
NOINLINE_TEST static void replace_first(void) { add_finalizer(objects[0], make_object()); }

static void require_looked_at(void (*action)(void), size_t sets) {
  act = action;
  sets_stopped = 0;
  midden_collect();
  assert_int_equal(sets_stopped, sets);
}

static void arguments_that_come_late_are_marked(void **state) {
  (void)state;
  make_with_finalizer();
  test_scrub_stack();
  require_looked_at(NULL, 0);
  require_looked_at(add_second, 1);
  fill_free_memory();
  require_looked_at(replace_first, 1);
  fill_free_memory();
  require_looked_at(NULL, 0);
  objects[0] = objects[1] = NULL;
  require_intact(2, 2);
}

static void look_at_argument(void *argument) { intact += *(uintptr_t *)argument == MAGIC; }

NOINLINE_TEST static void add_cleanup(void *object) {
  int error = midden_cleanup_add(object, look_at_argument, make_object(), NULL);
  REQUIRE(error == 0, "midden_cleanup_add: %d", error);
}

NOINLINE_TEST static void make_with_cleanups(void) {
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) add_cleanup(objects[i] = make_object());
}

static uintptr_t hidden;

NOINLINE_TEST static void hide_second(void) {
  hidden = test_hide(objects[1]);
  objects[1] = NULL;
}

static void add_another(void) { add_cleanup(objects[0]); }
NOINLINE_TEST static void find_second(void) { objects[1] = test_unhide(hidden); }

/* The second object is not known to live when such arguments are marked; then it is. */
static void arguments_of_cleanups_that_come_late_are_marked(void **state) {
  (void)state;
  make_with_cleanups();
  test_scrub_stack();
  require_looked_at(NULL, 0);
  require_looked_at(add_another, 1);
  fill_free_memory();
  require_looked_at(NULL, 0);
  hide_second();
  test_scrub_stack();
  require_looked_at(find_second, 1);
  fill_free_memory();
  require_looked_at(NULL, 0);
  objects[0] = objects[1] = NULL;
  require_intact(3, 3);
}

/* ---- ephemerons ---- */

static struct midden_ephemeron *ephemerons[3]; /* roots; of the objects, the last one of the first */
static struct midden_weak_table *table;        /* root */

NOINLINE_TEST static void make_ephemeron(size_t place, void *key) {
  ephemerons[place] = midden_ephemeron_new(key, make_object());
  REQUIRE(ephemerons[place] != NULL, "out of memory");
}

NOINLINE_TEST static void set_in_table(void *key) {
  int error = midden_weak_table_set(table, key, make_object());
  REQUIRE(error == 0, "midden_weak_table_set: %d", error);
}

NOINLINE_TEST static void make_with_ephemerons(void) {
  table = midden_weak_table_new();
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) make_ephemeron(i, objects[i] = make_object());
  set_in_table(objects[0]);
}

static void add_ephemeron(void) { make_ephemeron(2, objects[0]); }
static void replace_value(void) { set_in_table(objects[0]); }

NOINLINE_TEST static void add_to_new_key(void) {
  objects[1] = make_object();
  make_ephemeron(1, objects[1]);
}

NOINLINE_TEST static void require_values(size_t count) {
  fill_free_memory();
  for (size_t i = 0; i < count; i++) {
    const uintptr_t *value = midden_ephemeron_value(ephemerons[i]);
    REQUIRE(value != NULL && *value == MAGIC, "the value of ephemeron %zu is lost", i);
  }
  const uintptr_t *value = midden_weak_table_get(table, objects[0]);
  REQUIRE(value != NULL && *value == MAGIC, "the value in the table is lost");
}

/* Where keys are marked that is by the ephemerons, whose pages were written; else by the keys' records. */
static void values_of_ephemerons_that_come_late_are_marked(void **state) {
  (void)state;
  make_with_ephemerons();
  test_scrub_stack();
  require_looked_at(NULL, 0);
  require_looked_at(add_ephemeron, 0);
  require_values(3);
  require_looked_at(replace_value, 0);
  require_values(3);
  hide_second();
  test_scrub_stack();
  require_looked_at(find_second, 1);
  require_values(3);
  objects[1] = NULL;
  test_collect_clean(); /* no key is left that is dead */
  require_looked_at(add_to_new_key, 1);
  require_values(3);
  objects[0] = objects[1] = NULL;
  test_collect_clean();
  for (size_t i = 0; i < TEST_COUNT_OF(ephemerons); i++) assert_null(midden_ephemeron_key(ephemerons[i]));
}

/* ---- weak references ---- */

static void **weak_references; /* root; a list of the heap */

NOINLINE_TEST static void make_weak(size_t place) {
  weak_references[place] = midden_weak_new(objects[place % 2]);
  REQUIRE(weak_references[place] != NULL, "out of memory");
}

NOINLINE_TEST static void make_weak_references(void) {
  weak_references = midden_alloc(MANY_CALLS * sizeof *weak_references);
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) objects[i] = make_object();
  for (size_t i = 0; i < MANY_CALLS; i++) make_weak(i);
}

/* Two lists: one loses every other of its members, the other one all. */
static void drop_weak_references(void) {
  for (size_t i = 0; i < MANY_CALLS; i++) {
    if (i % 4 != 0) weak_references[i] = NULL;
  }
}

/* What lies where they lay does not change. */
NOINLINE_TEST static void require_left_lists(void) {
  for (size_t i = 0; i < MANY_CALLS; i++) {
    weak_references[i] = i % 4 == 0 ? weak_references[i] : memset(midden_alloc_data(32), 0xdd, 32);
  }
  objects[0] = objects[1] = NULL;
}

NOINLINE_TEST static size_t count_cleared(void) {
  size_t cleared = 0;
  for (size_t i = 0; i < MANY_CALLS; i += 4) cleared += midden_weak_get(weak_references[i]) == NULL;
  return cleared;
}

/* Targets that live are not looked at for the sake of references that died, or might have. */
static void weak_references_that_die_leave_their_targets(void **state) {
  (void)state;
  make_weak_references();
  test_collect_clean();
  sets_settled = 0;
  test_collect_clean();
  assert_int_equal(sets_settled, 0);
  drop_weak_references();
  test_collect_clean();
  assert_int_equal(sets_settled, 0);
  midden_verify();
  assert_int_equal(count_cleared(), 0);
  require_left_lists();
  test_collect_clean();
  assert_int_equal(count_cleared(), MANY_CALLS / 4);
  for (size_t i = 0; i < MANY_CALLS; i++) {
    const unsigned char *bytes = weak_references[i];
    for (size_t k = 0; i % 4 != 0 && k < 32; k++) assert_int_equal(bytes[k], 0xdd);
  }
  weak_references = NULL;
}

int main(void) {
  test_start("unit/dirty_specials");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  if (guard_active) return TEST_SKIPPED; /* guarded objects are read in the stop alone */
  struct midden_kind_options options = {.size = sizeof options, .name = "node", .trace = trace, .trace_beside = true};
  int number = midden_kind_new(&options);
  REQUIRE(number >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", number);
  kind = (midden_kind)number;
  const struct CMUnitTest tests[] = {
      test_scrubbed(what_a_finalizer_refers_to_is),
      test_scrubbed(what_a_cleanup_refers_to_is),
      test_scrubbed(the_queue_is_marked_beside),
      test_scrubbed(what_comes_to_it_late_is_marked),
      test_scrubbed(arguments_that_come_late_are_marked),
      test_scrubbed(arguments_of_cleanups_that_come_late_are_marked),
      test_scrubbed(values_of_ephemerons_that_come_late_are_marked),
      test_scrubbed(weak_references_that_die_leave_their_targets),
  };
  return test_run_group(tests);
}
