/* Check mode finds what a mark missed.  A child builds a graph in which one object, the victim, is referred to from one
 * place, and collects; between the mark and the check the victim's mark bit is cleared, as if the mark had missed it.  The
 * child says beforehand what the message must hold. */
#include "support/heap_test.h"

#include <setjmp.h>

#include <cmocka.h>

#include "gc/collector.h"
#include "observe/check.h"
#include "span/mark_bits.h"
#include "span/object.h"

static uintptr_t hidden_victim;                   /* hidden; 0: none */
static void *volatile root, *volatile stale_root; /* stale_root: never read */
static _Thread_local void *volatile storage_root;

static void clear_and_check(bool minor) {
  if (hidden_victim != 0) mark_bit_clear(&heap_arena, mark_side(), (uintptr_t)test_unhide(hidden_victim));
  check_marks_stw(minor);
}

#define EXPECT_MARK "expect: "

/* Tells the parent what is to be in the message. */
__attribute__((format(printf, 1, 2))) static void expect(const char *format, ...) {
  char line[256] = EXPECT_MARK;
  size_t length = strlen(line);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + length, sizeof(line) - length, format, arguments);
  va_end(arguments);
  dprintf(STDERR_FILENO, "%s\n", line);
}

static void *choose_victim(void *object) {
  hidden_victim = test_hide(object);
  expect("the mark missed object %p (kind ", object);
  return object;
}

static void expect_word(size_t word, const void *holder, const char *kind) {
  expect("is referred to by word %zu of object %p (kind %s", word, holder, kind);
}

/* ---- holders ---- */

static void **allocate_root_holder(midden_kind kind, size_t words) {
  void **holder = midden_alloc_kind(kind, words * sizeof(void *));
  root = holder;
  return holder;
}

static void in_conservative_object(void) {
  void **holder = allocate_root_holder(MIDDEN_CONSERVATIVE, 8);
  holder[3] = choose_victim(midden_alloc(100));
  expect_word(3, holder, "conservative");
  expect(", which is marked; path: the static data at ");
}

static void in_large_object(void) {
  void **holder = allocate_root_holder(MIDDEN_CONSERVATIVE, 100000);
  holder[99999] = (char *)choose_victim(midden_alloc(100)) + 40;
  expect_word(99999, holder, "conservative");
}

static void to_large_object(void) {
  void **holder = allocate_root_holder(MIDDEN_CONSERVATIVE, 2);
  holder[1] = (char *)choose_victim(midden_alloc(1000000)) + 900000;
  expect_word(1, holder, "conservative");
  expect(", size class 0, span ");
}

struct pair {
  long number;
  void *reference;
};

static const uint64_t pair_pointers = 2;
static const struct midden_type pair_type = {"pair", sizeof(struct pair), &pair_pointers, NULL, NULL};

static void in_typed_object(void) {
  struct pair *holder = midden_alloc_type(&pair_type);
  root = holder;
  holder->reference = choose_victim(midden_alloc_type(&pair_type));
  expect_word(1, holder, "typed, type pair");
}

static void in_typed_array(void) {
  struct pair *holder = midden_alloc_array(&pair_type, 100);
  root = holder;
  holder[70].reference = choose_victim(midden_alloc_data(30));
  expect_word(141, holder, "typed, type pair");
}

static void trace_second(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)slot_bytes, (void)argument;
  midden_trace(tracer, ((void **)object)[1]);
}

static void trace_hidden(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)slot_bytes, (void)argument;
  uintptr_t word = *(uintptr_t *)object;
  if (word != 0) midden_trace(tracer, test_unhide(word));
}

static midden_kind new_kind(const char *name, midden_trace_fn *trace, void *argument) {
  struct midden_kind_options options = {.size = sizeof(options), .name = name, .trace = trace, .argument = argument};
  int kind = midden_kind_new(&options);
  REQUIRE(kind > 0, "error %d", kind);
  return (midden_kind)kind;
}

static void in_traced_object(void) {
  void **holder = allocate_root_holder(new_kind("second", trace_second, NULL), 3);
  holder[1] = choose_victim(midden_alloc(20));
  expect_word(1, holder, "second");
}

static void behind_a_trace_function(void) {
  void **holder = allocate_root_holder(new_kind("hidden", trace_hidden, NULL), 3);
  *(uintptr_t *)holder = test_hide(choose_victim(midden_alloc(20)));
  expect("is referred to by the trace function of object %p (kind hidden", (void *)holder);
}

static void in_element_with_trace_function(void) {
  static struct midden_type type = {"traced", 32, NULL, trace_second, NULL};
  char *holder = midden_alloc_array(&type, 10);
  root = holder;
  *(void **)(holder + 3 * 32 + 8) = choose_victim(midden_alloc(20));
  expect_word(13, holder, "typed, type traced");
}

static void in_ephemeron(void) {
  static void *volatile key, *volatile ephemeron;
  key = midden_alloc(50);
  ephemeron = midden_ephemeron_new(key, choose_victim(midden_alloc(50)));
  expect("of object %p (kind ephemeron", ephemeron);
}

/* Each key is the value of a neighbour: in one of the two orders every ephemeron is met before its key. */
static void at_the_end_of_a_chain(bool backwards) {
  enum { LENGTH = 1000 };
  void **ephemerons = allocate_root_holder(MIDDEN_CONSERVATIVE, LENGTH + 1);
  void *key = choose_victim(midden_alloc(50));
  for (size_t i = 0; i < LENGTH; i++) {
    void *next = midden_alloc(50);
    ephemerons[backwards ? LENGTH - 1 - i : i] = midden_ephemeron_new(next, key);
    key = next;
  }
  ephemerons[LENGTH] = key;
  expect("of object %p (kind ephemeron", ephemerons[backwards ? LENGTH - 1 : 0]);
}

static void at_the_end_of_a_chain_forwards(void) { at_the_end_of_a_chain(false); }
static void at_the_end_of_a_chain_backwards(void) { at_the_end_of_a_chain(true); }

static void in_table(void) {
  static void *volatile key;
  struct midden_weak_table *table = midden_weak_table_new();
  root = table;
  key = midden_alloc(50);
  for (int i = 0; i < 100; i++) midden_weak_table_set(table, midden_alloc(10), NULL);
  midden_weak_table_set(table, key, choose_victim(midden_alloc(50)));
  expect(" (kind ephemeron");
}

static void ignore(void *argument) { (void)argument; }
static void ignore_object(void *object, void *argument) { (void)object, (void)argument; }

static void in_cleanup(void) {
  void *holder = allocate_root_holder(MIDDEN_DATA, 1);
  REQUIRE(midden_cleanup_add(holder, ignore, choose_victim(midden_alloc(50)), NULL) == 0, "no memory");
  expect("by the argument of a cleanup of object %p (kind data", holder);
}

static void behind_a_deep_path(void) {
  enum { DEPTH = 100000 };
  void **last = choose_victim(midden_alloc(50));
  for (size_t i = 0; i < DEPTH; i++) {
    void **next = midden_alloc(24);
    next[2] = last;
    if (i == 0) expect_word(2, next, "conservative");
    if (i < 3) expect("%s%p", i == 0 ? " -> " : "word 2 of ", (void *)next);
    last = next;
  }
  root = last;
  test_scrub_stack();
  expect("; path: the static data at 0x");
  expect(" -> word 2 of %p -> word 2 of 0x", (void *)last);
  expect(" -> 99994 more, word 2 of 0x");
}

/* ---- roots ---- */

static void in_static_data(void) {
  root = choose_victim(midden_alloc(50));
  expect("by the static data at %p.", (void *)&root);
}

static void in_thread_local_storage(void) {
  storage_root = choose_victim(midden_alloc(50));
  expect("by the thread-local storage of thread ");
}

static void in_added_root(void) {
  void **range = malloc(80);
  memset(range, 0, 80);
  REQUIRE(midden_root_add(range, range + 10) == 0, "no memory");
  range[7] = choose_victim(midden_alloc(50));
  expect("by the added root at %p.", (void *)&range[7]);
}

static void in_root_object(void) {
  void **holder = midden_alloc_root(50);
  holder[4] = choose_victim(midden_alloc(50));
  expect_word(4, holder, "root");
  expect("; path: the root objects -> ");
}

static void root_object_itself(void) {
  choose_victim(midden_alloc_root(50));
  expect("is referred to by the root objects.");
}

static void report_hidden(struct midden_tracer *tracer, void *argument) {
  (void)argument;
  midden_trace(tracer, test_unhide(hidden_victim));
}

static void in_root_callback(void) {
  choose_victim(midden_alloc(50));
  midden_set_root_callback(report_hidden, NULL);
  expect("is referred to by the root callback.");
}

static void in_kind_argument(void) {
  new_kind("with argument", trace_second, choose_victim(midden_alloc(50)));
  expect("is referred to by the argument of kind with argument.");
}

static void in_finalizer(void) {
  void *holder = allocate_root_holder(MIDDEN_DATA, 1);
  void *argument = choose_victim(midden_alloc(50));
  REQUIRE(midden_finalizer_set(holder, ignore_object, argument, MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0, "no memory");
  expect("is referred to by the argument of a finalizer.");
}

static void (*const missed[])(void) = {
    in_conservative_object,
    in_large_object,
    to_large_object,
    in_typed_object,
    in_typed_array,
    in_traced_object,
    behind_a_trace_function,
    in_element_with_trace_function,
    in_ephemeron,
    at_the_end_of_a_chain_forwards,
    at_the_end_of_a_chain_backwards,
    in_table,
    in_cleanup,
    behind_a_deep_path,
    in_static_data,
    in_thread_local_storage,
    in_added_root,
    in_root_object,
    root_object_itself,
    in_root_callback,
    in_kind_argument,
    in_finalizer,
};

/* ---- what is not missed ---- */

static void *volatile *volatile frame_word;

NOINLINE_TEST static void on_stack_alone(void) {
  void *volatile word = choose_victim(midden_alloc(50));
  frame_word = &word;
  midden_collect();
  REQUIRE(atomic_load_relaxed(&check_suspects) != 0, "no suspects");
  REQUIRE(*frame_word == test_unhide(hidden_victim), "another word");
}

static void *suspend_with(void *argument) {
  void *volatile word = choose_victim(midden_alloc(50));
  frame_word = &word;
  midden_fiber_yield(argument);
  return word;
}

static void on_fiber_alone(void) {
  root = midden_fiber_new(suspend_with, NULL, 0);
  midden_fiber_resume(root, NULL, NULL);
  test_scrub_stack();
  size_t before = atomic_load_relaxed(&check_suspects);
  test_collect_clean();
  REQUIRE(atomic_load_relaxed(&check_suspects) != before, "no suspects");
}

static void by_weak_reference(void) {
  root = midden_weak_new(choose_victim(midden_alloc(50)));
  test_collect_clean();
}

NOINLINE_TEST static void make_ephemeron_with_dead_key(void) {
  root = midden_ephemeron_new(midden_alloc(50), choose_victim(midden_alloc(50)));
}

static void by_ephemeron_with_dead_key(void) {
  make_ephemeron_with_dead_key();
  test_collect_clean();
}

static void by_words_that_are_no_pointers(void) {
  struct pair *pair = midden_alloc_type(&pair_type);
  root = pair;
  pair->number = (long)choose_victim(midden_alloc(50));
  test_collect_clean();
}

static void by_finalizer_alone(void) {
  void **object = midden_alloc(50);
  object[0] = midden_alloc(50);
  REQUIRE(midden_finalizer_set(object, ignore_object, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0, "no memory");
  object = NULL;
  test_collect_clean();
}

/* Slots of a kind that is not cleared hold what was there before; and a stale word names one that waits for its object. */
static void by_slots_in_windows(void) {
  struct midden_kind_options options = {.size = sizeof(options), .name = "not cleared", .not_zeroed = true};
  midden_kind kind = (midden_kind)midden_kind_new(&options);
  void *victim = choose_victim(midden_alloc(50));
  for (int i = 0; i < 1000; i++) {
    void **object = midden_alloc_kind(kind, 48);
    for (int j = 0; j < 6; j++) object[j] = victim;
  }
  victim = NULL;
  uintptr_t hidden = hidden_victim;
  hidden_victim = 0;
  test_collect_clean();
  void **next = NULL;
  for (int i = 0; next == NULL || *next != test_unhide(hidden); i++) {
    REQUIRE(i < 2000, "no slot is used again");
    void *object = midden_alloc_kind(kind, 48);
    memset(object, 0, 48);
    next = (void **)((uintptr_t)object + 48);
  }
  stale_root = next;
  hidden_victim = hidden;
  test_collect_clean();
}

static void (*const sound[])(void) = {
    on_stack_alone,
    on_fiber_alone,
    by_weak_reference,
    by_ephemeron_with_dead_key,
    by_words_that_are_no_pointers,
    by_finalizer_alone,
    by_slots_in_windows,
};

/* ---- children ---- */

static int run_missed(void *argument) {
  missed[*(size_t *)argument]();
  test_collect_clean();
  return 0;
}

static int run_sound(void *argument) {
  sound[*(size_t *)argument]();
  return 0;
}

/* Each expectation is a line of its own before the message. */
static void require_expected(size_t number, char *output) {
  char *message = strstr(output, "midden: check: ");
  REQUIRE(message != NULL, "case %zu: no message: %s", number, output);
  for (char *line = output, *end; (end = memchr(line, '\n', (size_t)(message - line))) != NULL; line = end + 1) {
    *end = 0;
    REQUIRE(strncmp(line, EXPECT_MARK, strlen(EXPECT_MARK)) == 0, "case %zu: %s", number, line);
    const char *expected = line + strlen(EXPECT_MARK);
    REQUIRE(strstr(message, expected) != NULL, "case %zu: no \"%s\" in: %s", number, expected, message);
  }
}

static void test_missed_objects_are_named(void **state) {
  (void)state;
  for (size_t i = 0; i < TEST_COUNT_OF(missed); i++) {
    struct test_outcome outcome = test_child(run_missed, &i, 60);
    REQUIRE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT, "case %zu: status 0x%x: %s", i,
            (unsigned)outcome.status, outcome.message);
    require_expected(i, outcome.message);
  }
}

static void test_nothing_else_is(void **state) {
  (void)state;
  for (size_t i = 0; i < TEST_COUNT_OF(sound); i++) {
    struct test_outcome outcome = test_child(run_sound, &i, 60);
    REQUIRE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0, "case %zu: status 0x%x: %s", i,
            (unsigned)outcome.status, outcome.message);
  }
}

/* The same graphs, and nothing is cleared. */
static int run_all(void *argument) {
  (void)argument;
  for (size_t i = 0; i < TEST_COUNT_OF(missed); i++) {
    if (missed[i] == in_root_callback) continue;
    missed[i]();
    hidden_victim = 0;
    test_collect_clean();
  }
  return check_suspects != 0;
}

static void test_a_good_mark_passes(void **state) {
  (void)state;
  test_child_succeeds("a good mark", run_all, NULL, 300);
}

int main(void) {
  test_start("test_check");
  unsetenv("MIDDEN_DEBUG");
  struct midden_options options = {
      .size = sizeof(options), .debug = MIDDEN_DEBUG_CHECK | MIDDEN_DEBUG_NO_TOOLS, .background = -1};
  if (midden_init(&options) != 0 || collector_checker != check_marks_stw) return 1;
  collector_checker = clear_and_check;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_missed_objects_are_named),
      cmocka_unit_test(test_nothing_else_is),
      cmocka_unit_test(test_a_good_mark_passes),
  };
  return test_run_group(tests);
}
