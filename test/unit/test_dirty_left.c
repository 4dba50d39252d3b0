/* Dirty-page mode: finalizers that are due are looked for after the stop, where there are many.  What the program could come by
 * to such an object is closed in the stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/settle.h"
#include "gc/special.h"
#include "mutator/world.h"
#include "span/guard.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { BYTES = 64, MANY = 20000, DUE = 6000, HEAP_BYTES = 4 << 20 };

/* ---- steps of the library ---- */

static bool leave;        /* whatever there is */
static void (*act)(void); /* after the stop, before finalizers are looked for */
static size_t searched, searched_left,
    filtered_stopped; /* atomic; in the stop, after it; sets whose records were looked at in it */

/* The names are the linker's. */
bool __real_settle_takes_long(void);
bool __wrap_settle_takes_long(void);
size_t __real_settle_find_finalizers_stw(void);
size_t __wrap_settle_find_finalizers_stw(void);
void __real_settle_find_finalizers_running(void);
void __wrap_settle_find_finalizers_running(void);
void __real_special_filter(struct special_set *set, special_keep_fn *keep, void *argument);
void __wrap_special_filter(struct special_set *set, special_keep_fn *keep, void *argument);

bool __wrap_settle_takes_long(void) { return leave || __real_settle_takes_long(); }

size_t __wrap_settle_find_finalizers_stw(void) {
  searched++;
  return __real_settle_find_finalizers_stw();
}

/* The one thread of the program waits for the collection: `act` may do what it could. */
void __wrap_settle_find_finalizers_running(void) {
  REQUIRE(!world_is_stopped(), "the world is stopped");
  searched_left++;
  if (act != NULL) act();
  __real_settle_find_finalizers_running();
}

void __wrap_special_filter(struct special_set *set, special_keep_fn *keep, void *argument) {
  if (world_is_stopped()) atomic_add_relaxed(&filtered_stopped, (size_t)1);
  __real_special_filter(set, keep, argument);
}

static void collect_with(bool left, void (*action)(void)) {
  leave = left;
  act = action;
  searched = searched_left = filtered_stopped = 0;
  midden_collect();
  leave = false;
  act = NULL;
}

/* ---- objects ---- */

static size_t finalized;

static void finalize(void *object, void *argument) {
  (void)object, (void)argument;
  finalized++;
}

static void *new_finalizable(void) {
  void *object = midden_alloc(BYTES);
  REQUIRE(object != NULL, "out of memory");
  int error = midden_finalizer_set(object, finalize, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
  return object;
}

static void *root; /* of what lives */

/* Each test's objects have a set of their own: what others left is gone. */
static int begin(void **state) {
  (void)state;
  root = NULL;
  test_collect_clean();
  midden_finalizers_run(SIZE_MAX);
  test_collect_clean();
  finalized = 0;
  return 0;
}

static void require_finalized(size_t count) {
  midden_finalizers_run(SIZE_MAX);
  assert_int_equal(finalized, count);
  midden_verify();
}

/* ---- what the program reads ---- */

static void **links;                       /* root; words that are not marked from */
static struct midden_weak *weak;           /* root */
static struct midden_ephemeron *ephemeron; /* root */

static void link_to(void *object, enum midden_weak_when when) {
  links[when] = object;
  int error = midden_weak_link(&links[when], object, when);
  REQUIRE(error == 0, "midden_weak_link: %d", error);
}

NOINLINE_TEST static void drop_behind_link(void) { link_to(new_finalizable(), MIDDEN_WEAK_BEFORE_FINALIZERS); }
NOINLINE_TEST static void drop_behind_weak(void) { weak = midden_weak_new(new_finalizable()); }
NOINLINE_TEST static void drop_behind_ephemeron(void) { ephemeron = midden_ephemeron_new(new_finalizable(), NULL); }

static void require_no_link(void) {
  REQUIRE(links[MIDDEN_WEAK_BEFORE_FINALIZERS] == NULL, "the link leads to what is dead");
}

static void require_no_weak(void) { REQUIRE(midden_weak_get(weak) == NULL, "the weak reference does"); }
static void require_no_key(void) { REQUIRE(midden_ephemeron_key(ephemeron) == NULL, "the ephemeron does"); }

static void require_closed(void (*drop)(void), void (*look)(void)) {
  drop();
  test_scrub_stack();
  collect_with(true, look);
  assert_int_equal(searched_left, 1);
  assert_int_equal(searched, 0);
  require_finalized(1);
}

static void links_are_cleared_in_the_stop(void **state) {
  (void)state;
  require_closed(drop_behind_link, require_no_link);
}

static void weak_references_are_cleared_in_the_stop(void **state) {
  (void)state;
  require_closed(drop_behind_weak, require_no_weak);
}

static void ephemerons_are_cleared_in_the_stop(void **state) {
  (void)state;
  require_closed(drop_behind_ephemeron, require_no_key);
}

NOINLINE_TEST static void drop_behind_late_link(void) { link_to(new_finalizable(), MIDDEN_WEAK_AFTER_FINALIZERS); }

/* The program may read it until the finalizer has run. */
static void the_stop_is_not_left_for_links_that_outlive_finalizers(void **state) {
  (void)state;
  drop_behind_late_link();
  test_scrub_stack();
  collect_with(true, NULL);
  assert_int_equal(searched_left, 0);
  assert_int_equal(searched, 1);
  assert_non_null(links[MIDDEN_WEAK_AFTER_FINALIZERS]);
  require_finalized(1);
  test_collect_clean();
  assert_null(links[MIDDEN_WEAK_AFTER_FINALIZERS]);
}

/* ---- what the program changes meanwhile ---- */

NOINLINE_TEST static void make_pair(void) {
  root = new_finalizable();
  new_finalizable();
}

static void link_root(void) { link_to(root, MIDDEN_WEAK_BEFORE_FINALIZERS); }

static void unlink_root(void) {
  int error = midden_weak_unlink(&links[MIDDEN_WEAK_BEFORE_FINALIZERS], MIDDEN_WEAK_BEFORE_FINALIZERS);
  REQUIRE(error == 0, "midden_weak_unlink: %d", error);
}

static void a_set_that_was_settled_is_not_settled_twice(void **state) {
  (void)state;
  make_pair();
  link_root();
  test_scrub_stack();
  collect_with(true, unlink_root);
  assert_int_equal(searched_left, 1);
  require_finalized(1);
}

static void a_set_that_was_not_settled_is_not_forgotten(void **state) {
  (void)state;
  make_pair();
  test_scrub_stack();
  collect_with(true, link_root);
  assert_int_equal(searched_left, 1);
  require_finalized(1);
  unlink_root();
}

/* ---- trace functions, which are called in stops alone ---- */

enum { MAGIC = 0x600d, FILL = 0xdd };

static midden_kind traced;
static size_t last_finalized; /* the value of what `look_at` saw last */

static void trace(void *object, size_t bytes, struct midden_tracer *tracer, void *argument) {
  (void)bytes, (void)argument;
  REQUIRE(world_is_stopped(), "a trace function is called beside the program");
  midden_trace(tracer, *(void **)object);
}

struct chain {
  struct chain *next;
  size_t value;
};

NOINLINE_TEST static struct chain *new_chain(midden_kind kind, struct chain *next, size_t value) {
  struct chain *chain = midden_alloc_kind(kind, BYTES);
  REQUIRE(chain != NULL, "out of memory");
  *chain = (struct chain){next, value};
  return chain;
}

static void look_at(void *object, void *argument) {
  (void)argument;
  struct chain *chain = object;
  last_finalized = chain->value;
  for (; chain != NULL; chain = chain->next) REQUIRE(chain->value != 0 && chain->value <= MAGIC, "it is lost");
  finalized++;
}

static void finalize_chain(struct chain *chain) {
  int error = midden_finalizer_set(chain, look_at, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
}

NOINLINE_TEST static void fill_free_memory(void) {
  for (size_t i = 0; i < MANY; i++) memset(midden_alloc(BYTES), FILL, BYTES);
}

NOINLINE_TEST static void drop_traced(void) {
  struct chain *last = new_chain(MIDDEN_CONSERVATIVE, NULL, MAGIC);
  finalize_chain(new_chain(MIDDEN_CONSERVATIVE, new_chain(traced, last, MAGIC), MAGIC));
}

static void what_trace_functions_lead_to_is_marked(void **state) {
  (void)state;
  drop_traced();
  test_scrub_stack();
  collect_with(true, NULL);
  assert_int_equal(searched_left, 1);
  fill_free_memory();
  require_finalized(1);
}

NOINLINE_TEST static void drop_two(void) {
  struct chain *second = new_chain(MIDDEN_CONSERVATIVE, NULL, 2);
  finalize_chain(new_chain(traced, second, 1));
  finalize_chain(second);
}

static void what_a_trace_function_of_another_leads_to_waits(void **state) {
  (void)state;
  drop_two();
  test_scrub_stack();
  for (size_t i = 1; i <= 2; i++) {
    collect_with(true, NULL);
    require_finalized(i);
    assert_int_equal(last_finalized, i);
    test_scrub_stack();
  }
}

/* ---- many ---- */

NOINLINE_TEST static void make_many(void) {
  void **objects = midden_alloc(MANY * sizeof *objects);
  for (size_t i = 0; i < MANY; i++) objects[i] = new_finalizable();
  for (size_t i = 0; i < MANY; i += 2) objects[i] = NULL;
  root = objects;
}

static void many_are_not_looked_at_in_the_stop(void **state) {
  (void)state;
  make_many();
  test_scrub_stack();
  collect_with(false, NULL);
  assert_int_equal(searched_left, 1);
  assert_int_equal(filtered_stopped, 0);
  midden_finalizers_run(SIZE_MAX);
  assert_in_range(finalized, MANY / 2 - 100, MANY / 2); /* stale words may keep some */
}

NOINLINE_TEST static void drop_some(void) {
  for (size_t i = 0; i < DUE; i++) new_finalizable();
}

static void many_that_are_due_are_found_in_the_stop_and_settled_after_it(void **state) {
  (void)state;
  drop_some();
  test_scrub_stack();
  collect_with(false, NULL);
  assert_int_equal(searched, 1);
  assert_int_equal(searched_left, 1);
  midden_finalizers_run(SIZE_MAX);
  assert_in_range(finalized, DUE - 100, DUE); /* stale words may keep some */
}

static void few_are_settled_in_the_stop(void **state) {
  (void)state;
  make_pair();
  test_scrub_stack();
  collect_with(false, NULL);
  assert_int_equal(searched_left, 0);
  assert_int_equal(searched, 1);
  require_finalized(1);
}

int main(void) {
  test_start("unit/dirty_left");
  if (!test_writes_are_told()) return TEST_SKIPPED;
  cycle_init_dirty(MIDDEN_GENERATIONS_OFF, 0);
  if (guard_active) return TEST_SKIPPED; /* guarded objects are settled in the stop */
  static void *large;
  large = midden_alloc(HEAP_BYTES); /* smaller heaps are marked in a stop */
  links = midden_alloc_data(2 * sizeof *links);
  struct midden_kind_options options = {.size = sizeof options, .name = "traced", .trace = trace};
  int number = midden_kind_new(&options);
  REQUIRE(number >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", number);
  traced = (midden_kind)number;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(links_are_cleared_in_the_stop, begin),
      cmocka_unit_test_setup(weak_references_are_cleared_in_the_stop, begin),
      cmocka_unit_test_setup(ephemerons_are_cleared_in_the_stop, begin),
      cmocka_unit_test_setup(the_stop_is_not_left_for_links_that_outlive_finalizers, begin),
      cmocka_unit_test_setup(a_set_that_was_settled_is_not_settled_twice, begin),
      cmocka_unit_test_setup(a_set_that_was_not_settled_is_not_forgotten, begin),
      cmocka_unit_test_setup(what_trace_functions_lead_to_is_marked, begin),
      cmocka_unit_test_setup(what_a_trace_function_of_another_leads_to_waits, begin),
      cmocka_unit_test_setup(many_are_not_looked_at_in_the_stop, begin),
      cmocka_unit_test_setup(many_that_are_due_are_found_in_the_stop_and_settled_after_it, begin),
      cmocka_unit_test_setup(few_are_settled_in_the_stop, begin),
  };
  int status = test_run_group(tests);
  REQUIRE(large != NULL && links != NULL, "out of memory");
  return status;
}
