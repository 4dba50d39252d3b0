/* Finalizers: the four orders, replacing and removing, on demand and at once, resurrection; and left by longjmp. */
#include <setjmp.h>
#include <stdbool.h>

#include "gc_check.h"

#include "gc/gc_disclaim.h"
#include "gc/javaxfc.h"

/* Finalizers count only for the test that registered them: a few objects of earlier tests may go late. */
static GC_word this_test;
static int finalized;

static void start_test(void) {
  this_test++;
  finalized = 0;
}

static void count(void *object, void *argument) {
  CHECK(object != NULL);
  finalized += (GC_word)argument == this_test;
}

static void count_other(void *object, void *argument) { count(object, argument); }

#define THIS_TEST ((void *)this_test)

typedef void registrar(void *object, GC_finalization_proc function, void *argument, GC_finalization_proc *old_function,
                       void **old_argument);

/* ---- registration ---- */

static void test_old_values(registrar *set) {
  void *object = GC_malloc(40);
  GC_finalization_proc function = count_other;
  void *argument = &function;
  set(object, count, (void *)5, &function, &argument);
  CHECK(function == NULL && argument == NULL);
  set(object, count_other, (void *)6, &function, &argument);
  CHECK(function == count && argument == (void *)5);
  set(object, NULL, NULL, &function, &argument);
  CHECK(function == count_other && argument == (void *)6);
  function = count;
  set(object, NULL, NULL, &function, &argument);
  CHECK(function == NULL && argument == NULL);
  set(object, count, THIS_TEST, NULL, NULL);
  set(object, NULL, NULL, NULL, NULL);
}

/* What is not in the heap has no finalizer. */
static void test_foreign(registrar *set) {
  static int outside;
  GC_finalization_proc function = count;
  void *argument = &function;
  set(&outside, count, THIS_TEST, &function, &argument);
  CHECK(function == NULL && argument == NULL);
  set(&outside, NULL, NULL, NULL, NULL);
}

/* ---- single objects ---- */

static NOINLINE void drop_many(registrar *set) {
  for (int i = 0; i < COUNT; i++) set(GC_malloc(40), count, THIS_TEST, NULL, NULL);
}

static void test_dropped(registrar *set) {
  start_test();
  drop_many(set);
  check_collect();
  CHECK(finalized > NEARLY_ALL && finalized <= COUNT);
}

static NOINLINE void hold_many(registrar *set, void **held) {
  for (int i = 0; i < COUNT; i++) set(held[i] = GC_malloc(40), count, THIS_TEST, NULL, NULL);
}

static void test_held(registrar *set) {
  void **held = GC_malloc(COUNT * sizeof(void *));
  start_test();
  hold_many(set, held);
  check_collect();
  CHECK_EQUAL(finalized, 0);
  memset(held, 0, COUNT * sizeof(void *));
  check_collect();
  CHECK(finalized > NEARLY_ALL);
  GC_reachable_here(held);
}

/* ---- objects that point to others ---- */

enum { CHAIN = 3 };
static int order_seen[COUNT]; /* for each chain: how many of its finalizers ran */
static int order_broken, order_ran;

/* The argument says which chain, and where in it. */
static void check_order(void *object, void *argument) {
  (void)object;
  GC_word value = (GC_word)argument, chain = value / CHAIN, place = value % CHAIN;
  order_broken += order_seen[chain] != (int)place;
  order_seen[chain]++;
  order_ran++;
}

/* a -> b -> c, all with finalizers. */
static NOINLINE void drop_chains(registrar *set) {
  for (GC_word chain = 0; chain < COUNT; chain++) {
    void **next = NULL;
    for (GC_word place = CHAIN; place-- > 0;) {
      void **object = GC_malloc(40);
      object[1] = next;
      set(object, check_order, (void *)(chain * CHAIN + place), NULL, NULL);
      next = object;
    }
  }
}

/* From the head to the end, one collection for each step. */
static void test_ordered(registrar *set) {
  start_test();
  order_broken = order_ran = 0;
  memset(order_seen, 0, sizeof(order_seen));
  drop_chains(set);
  for (int i = 0; i < 2 * CHAIN; i++) check_collect();
  CHECK_EQUAL(order_broken, 0);
  CHECK(order_ran > NEARLY_ALL * CHAIN);
}

/* The last cycles, in disguise, and how many warnings there were of one of them. */
static GC_word in_cycles[2 * COUNT];
static int warned;

static void count_warning(char *format, GC_word argument) {
  for (int i = 0; i < 2 * COUNT; i++) warned += in_cycles[i] == ~argument && strstr(format, "%p");
}

static NOINLINE void drop_cycles(registrar *set, int length) {
  for (int i = 0; i < COUNT; i++) {
    void **a = GC_malloc(40), **b = length == 1 ? a : GC_malloc(48);
    a[1] = b;
    b[1] = a;
    in_cycles[2 * i] = GC_HIDE_POINTER(a);
    in_cycles[2 * i + 1] = GC_HIDE_POINTER(b);
    set(a, count, THIS_TEST, NULL, NULL);
    if (b != a) set(b, count, THIS_TEST, NULL, NULL);
  }
}

static int count_cycles(registrar *set, int length) {
  start_test();
  drop_cycles(set, length);
  check_collect();
  check_collect();
  return finalized;
}

static void test_cycles(void) {
  GC_set_warn_proc(count_warning);
  CHECK_EQUAL(count_cycles(GC_register_finalizer, 2), 0);
  CHECK(warned > 0);
  GC_set_warn_proc(GC_ignore_warn_proc);
  CHECK_EQUAL(count_cycles(GC_register_finalizer, 1), 0);
  CHECK(count_cycles(GC_register_finalizer_ignore_self, 1) > NEARLY_ALL);
  CHECK_EQUAL(count_cycles(GC_register_finalizer_ignore_self, 2), 0);
  CHECK(count_cycles(GC_register_finalizer_no_order, 2) > 2 * NEARLY_ALL);
  CHECK(count_cycles(GC_register_finalizer_no_order, 1) > NEARLY_ALL);
}

/* In no order a whole chain goes in one collection, and each finalizer still finds what its object points to. */
static int contents_seen;

static void check_contents(void *object, void *argument) {
  char *text = ((char **)object)[1];
  contents_seen += text && strcmp(text, "contents") == 0;
  count(object, argument);
}

static NOINLINE void drop_with_contents(registrar *set) {
  for (int i = 0; i < COUNT; i++) {
    char **object = GC_malloc(40);
    object[1] = GC_strdup("contents");
    set(object, check_contents, THIS_TEST, NULL, NULL);
  }
}

static void test_contents(registrar *set) {
  start_test();
  contents_seen = 0;
  drop_with_contents(set);
  check_collect();
  CHECK(finalized > NEARLY_ALL);
  CHECK_EQUAL(contents_seen, finalized);
}

/* An object with "unreachable" order waits for those that reach it, in any order. */
static char holder_done[COUNT];
static int held_done, held_early;

static void finish_holder(void *object, void *argument) {
  (void)object;
  holder_done[(GC_word)argument] = 1;
}

static void finish_held(void *object, void *argument) {
  (void)object;
  held_early += !holder_done[(GC_word)argument];
  held_done++;
}

static NOINLINE void drop_held_by_finalizable(void) {
  for (GC_word i = 0; i < COUNT; i++) {
    void **holder = GC_malloc(40);
    holder[1] = GC_malloc(48);
    GC_register_finalizer_no_order(holder, finish_holder, (void *)i, NULL, NULL);
    GC_register_finalizer_unreachable(holder[1], finish_held, (void *)i, NULL, NULL);
  }
}

static void test_unreachable(void) {
  drop_held_by_finalizable();
  for (int i = 0; i < 3; i++) check_collect();
  CHECK(held_done > NEARLY_ALL);
  CHECK_EQUAL(held_early, 0);
}

/* ---- arguments, resurrection ---- */

static int argument_lives;

static void check_argument(void *object, void *argument) {
  (void)object;
  argument_lives += strcmp(argument, "argument") == 0;
}

static NOINLINE void drop_with_arguments(void) {
  for (int i = 0; i < COUNT; i++)
    GC_register_finalizer(GC_malloc(40), check_argument, GC_strdup("argument"), NULL, NULL);
}

static void test_arguments_are_held(void) {
  argument_lives = 0;
  drop_with_arguments();
  check_collect();
  CHECK(argument_lives > NEARLY_ALL);
}

static void **saved;
static int saved_count;

static void save(void *object, void *argument) {
  CHECK(argument == &saved_count);
  saved[saved_count++] = object;
}

static NOINLINE void drop_saved(void) {
  for (int i = 0; i < COUNT; i++) {
    char *object = GC_malloc(40);
    strcpy(object, "saved");
    GC_register_finalizer(object, save, &saved_count, NULL, NULL);
  }
}

/* A finalizer may bring its object back; it is then an ordinary object without a finalizer. */
static void test_resurrection(void) {
  saved = GC_malloc_uncollectable(COUNT * sizeof(void *));
  drop_saved();
  check_collect();
  CHECK(saved_count > NEARLY_ALL);
  int before = saved_count;
  check_collect();
  for (int i = 0; i < 2000; i++) memset(GC_malloc(40), 0xee, 40);
  CHECK_EQUAL(saved_count, before);
  for (int i = 0; i < saved_count; i++) CHECK(strcmp(saved[i], "saved") == 0);
  GC_free(saved);
}

/* ---- when they run ---- */

static int notified;

static void notify(void) { notified++; }

static void test_on_demand(void) {
  GC_set_finalize_on_demand(1);
  GC_set_finalizer_notifier(notify);
  CHECK(GC_get_finalize_on_demand() == 1 && GC_get_finalizer_notifier() == notify);
  while (GC_invoke_finalizers() > 0) continue;
  CHECK(!GC_should_invoke_finalizers());
  CHECK_EQUAL(GC_invoke_finalizers(), 0);
  start_test();
  notified = 0;
  drop_many(GC_register_finalizer);
  check_collect();
  CHECK_EQUAL(finalized, 0);
  CHECK(notified > 0);
  CHECK(GC_should_invoke_finalizers());
  int ran = GC_invoke_finalizers();
  CHECK(ran >= finalized); /* objects of earlier tests may have waited too */
  CHECK(finalized > NEARLY_ALL);
  CHECK(!GC_should_invoke_finalizers());
  GC_set_finalizer_notifier(NULL);
  GC_set_finalize_on_demand(0);
}

/* A finalizer that allocates and collects does not start other finalizers inside itself. */
static int depth, deepest;

static void collect_inside(void *object, void *argument) {
  depth++;
  if (depth > deepest) deepest = depth;
  for (int i = 0; i < 100; i++) GC_malloc(100);
  if ((finalized & 63) == 0) GC_gcollect();
  count(object, argument);
  depth--;
}

static NOINLINE void drop_collecting(void) {
  for (int i = 0; i < COUNT; i++) GC_register_finalizer(GC_malloc(40), collect_inside, THIS_TEST, NULL, NULL);
}

static void test_nested(void) {
  start_test();
  for (int i = 0; i < 3; i++) drop_collecting();
  check_collect();
  check_collect();
  CHECK(finalized > 3 * NEARLY_ALL);
  CHECK(deepest < 16); /* the stock library lets a few more in */
}

/* A finalizer that ends by longjmp, as by an exception, does not keep the next ones from running. */
static jmp_buf way_out;
static bool is_to_leave;
static int left;

static void leave(void *object, void *argument) {
  count(object, argument);
  if (!is_to_leave || finalized % 50 != 0) return;
  is_to_leave = false;
  left++;
  longjmp(way_out, 1);
}

static NOINLINE void drop_leaving(void) {
  is_to_leave = true;
  for (int i = 0; i < COUNT; i++) GC_register_finalizer(GC_malloc(40), leave, THIS_TEST, NULL, NULL);
}

static NOINLINE void collect_deeper(int frames) {
  volatile char space[1024];
  memset((char *)space, frames, sizeof(space));
  if (frames > 0)
    collect_deeper(frames - 1);
  else
    check_collect();
  CHECK_EQUAL(space[0], frames);
}

static NOINLINE void collect_until_left(int frames_deeper) {
  if (setjmp(way_out) == 0) collect_deeper(frames_deeper);
}

static void test_left(void) {
  enum { TIMES = 10 };
  start_test();
  left = 0;
  for (int i = 0; i < TIMES; i++) {
    drop_leaving();
    for (int j = 0; j < 3; j++) collect_until_left(j);
  }
  CHECK_EQUAL(left, TIMES);
  CHECK(finalized > TIMES * NEARLY_ALL);
}

/* Nor where all that is called later begins further down. */
static void test_left_further_up(void) {
  start_test();
  drop_leaving();
  collect_until_left(0);
  CHECK(!is_to_leave && finalized < COUNT / 2);
  for (int i = 0; i < 3; i++) collect_until_left(50);
  CHECK(finalized > NEARLY_ALL);
}

/* A freed object is not finalized. */
static NOINLINE void free_many(void) {
  for (int i = 0; i < COUNT; i++) {
    void *object = GC_malloc(40);
    GC_register_finalizer(object, count, THIS_TEST, NULL, NULL);
    GC_register_finalizer(object, NULL, NULL, NULL, NULL);
    GC_free(object);
  }
}

static void test_freed(void) {
  start_test();
  free_many();
  check_collect();
  CHECK_EQUAL(finalized, 0);
}

/* ---- allocated together with a finalizer ---- */

static struct GC_finalizer_closure closure = {count, NULL};

static NOINLINE void drop_with_closure(void) {
  for (int i = 0; i < COUNT; i++) memset(GC_finalized_malloc(40, &closure), 0x11, 40);
}

static void test_closures(void) {
  GC_init_finalized_malloc();
  start_test();
  closure.cd = THIS_TEST;
  drop_with_closure();
  check_collect();
  for (int i = 0; i < 20000; i++) GC_malloc(40); /* the stock library calls closures as it sweeps */
  check_collect();
  CHECK(finalized > NEARLY_ALL);
}

/* Such an object finds those that it refers to as they were, though they have closures too. */
struct whole {
  struct whole *next;
  int is_whole;
};
static int closures_ended, ended_early;

static void end_whole(void *object, void *argument) {
  struct whole *whole = object;
  (void)argument;
  if (whole->next) ended_early += !whole->next->is_whole;
  whole->is_whole = 0;
  closures_ended++;
}

static const struct GC_finalizer_closure end_closure = {end_whole, NULL};

static NOINLINE void drop_chains_with_closures(void) {
  for (int i = 0; i < COUNT; i++) {
    struct whole *next = NULL;
    for (int j = 0; j < CHAIN; j++) {
      struct whole *whole = GC_finalized_malloc(sizeof(*whole), &end_closure);
      whole->next = next;
      whole->is_whole = 1;
      next = whole;
    }
  }
}

static void test_closures_in_order(void) {
  drop_chains_with_closures();
  for (int i = 0; i < 2 * CHAIN; i++) {
    check_collect();
    for (int j = 0; j < 20000; j++) GC_malloc(40);
  }
  CHECK(closures_ended > NEARLY_ALL);
  CHECK_EQUAL(ended_early, 0);
}

static void test_all(void) {
  void **held = GC_malloc(COUNT * sizeof(void *));
  start_test();
  hold_many(GC_register_finalizer, held);
  GC_finalize_all();
  CHECK_EQUAL(finalized, COUNT);
  GC_finalize_all();
  CHECK_EQUAL(finalized, COUNT);
  GC_reachable_here(held);
}

/* Finalizers that register themselves again are run again; the notifier is not called. */
enum { AGAIN = 3 };

static void count_again(void *object, void *argument) {
  finalized++;
  GC_word more = (GC_word)argument;
  if (more > 0) GC_register_finalizer_no_order(object, count_again, (void *)(more - 1), NULL, NULL);
}

static NOINLINE void hold_again(void **held) {
  for (int i = 0; i < COUNT; i++)
    GC_register_finalizer(held[i] = GC_malloc(40), count_again, (void *)(GC_word)AGAIN, NULL, NULL);
}

static void test_all_again(void) {
  void **held = GC_malloc(COUNT * sizeof(void *));
  GC_set_finalizer_notifier(notify);
  for (int on_demand = 0; on_demand < 2; on_demand++) {
    GC_set_finalize_on_demand(on_demand);
    start_test();
    hold_again(held);
    notified = 0;
    GC_finalize_all();
    CHECK_EQUAL(finalized, COUNT * (1 + AGAIN));
    CHECK_EQUAL(notified, 0);
  }
  GC_set_finalize_on_demand(0);
  GC_set_finalizer_notifier(NULL);
  GC_reachable_here(held);
}

int main(void) {
  static registrar *const all[] = {GC_register_finalizer, GC_register_finalizer_ignore_self,
                                   GC_register_finalizer_no_order, GC_register_finalizer_unreachable};
  GC_set_java_finalization(1);
  GC_INIT();
  for (int i = 0; i < 4; i++) {
    test_old_values(all[i]);
    test_foreign(all[i]);
    test_dropped(all[i]);
    test_held(all[i]);
    test_contents(all[i]);
  }
  test_ordered(GC_register_finalizer);
  test_ordered(GC_register_finalizer_ignore_self);
  test_cycles();
  test_unreachable();
  test_arguments_are_held();
  test_resurrection();
  test_on_demand();
  test_nested();
  test_left();
  test_left_further_up();
  test_freed();
  test_closures();
  test_closures_in_order();
  test_all();
  test_all_again();
  return 0;
}
