/* Kinds that a program makes: every sort of descriptor, mark procedures, and the free lists of gc_inline.h. */
#include <stdint.h>

#include "gc_check.h"

#include "gc/gc_gcj.h"
#include "gc/gc_inline.h"
#include "gc/gc_mark.h"

enum { WORDS = 6 };

/* Makes COUNT objects by `make`; each points from word `word` to an object that is watched. */
typedef void **maker(void);

static NOINLINE void fill(void ***objects, maker *make, int word) {
  for (int i = 0; i < COUNT; i++) {
    void **object = make();
    void *target = GC_malloc(56);
    object[word] = target;
    check_watch(i, target);
    objects[i] = object;
  }
}

static int count_dead_behind(maker *make, int word) {
  void ***objects = GC_malloc(COUNT * sizeof(void *));
  fill(objects, make, word);
  check_collect();
  GC_reachable_here(objects);
  return check_count_dead();
}

static void check_word_counts(maker *make, int word) { CHECK_EQUAL(count_dead_behind(make, word), 0); }
static void check_word_ignored(maker *make, int word) { CHECK(count_dead_behind(make, word) > NEARLY_ALL); }

static int kind;

static void **make_of_kind(void) {
  void **object = GC_generic_malloc(WORDS * sizeof(void *), kind);
  CHECK(object != NULL && GC_size(object) >= WORDS * sizeof(void *));
  CHECK_EQUAL(GC_get_kind_and_size(object, NULL), kind);
  for (int i = 0; i < WORDS; i++) CHECK(object[i] == NULL);
  return object;
}

static void test_built_in(void) {
  size_t bytes = 0;
  CHECK_EQUAL(GC_get_kind_and_size(GC_malloc_atomic(33), &bytes), GC_I_PTRFREE);
  CHECK(bytes >= 33);
  CHECK_EQUAL(GC_get_kind_and_size(GC_malloc(10), NULL), GC_I_NORMAL);
  CHECK_EQUAL(GC_get_kind_and_size(GC_malloc_uncollectable(10), NULL), 2);
  CHECK_EQUAL(GC_get_kind_and_size(GC_malloc_atomic_uncollectable(10), NULL), 3);
  CHECK_EQUAL(GC_get_kind_and_size(GC_malloc_kind(10, GC_I_NORMAL), NULL), GC_I_NORMAL);
  CHECK_EQUAL(GC_get_kind_and_size(GC_generic_or_special_malloc(10, 2), NULL), 2);
}

static void test_length(void) {
  kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
  check_word_counts(make_of_kind, 0);
  check_word_counts(make_of_kind, WORDS - 1);
  kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 0, 1);
  check_word_ignored(make_of_kind, 2);
  kind = (int)GC_new_kind(GC_new_free_list(), 2 * sizeof(void *) | GC_DS_LENGTH, 0, 1);
  check_word_counts(make_of_kind, 1);
  check_word_ignored(make_of_kind, 2);
}

/* The highest bit stands for the first word. */
static GC_word bit_of_word(int word) { return (GC_word)1 << (8 * sizeof(GC_word) - 1 - (unsigned)word); }

static void test_bitmap(void) {
  kind = (int)GC_new_kind(GC_new_free_list(), bit_of_word(1) | bit_of_word(4) | GC_DS_BITMAP, 0, 1);
  check_word_counts(make_of_kind, 1);
  check_word_counts(make_of_kind, 4);
  check_word_ignored(make_of_kind, 0);
  check_word_ignored(make_of_kind, 2);
  check_word_ignored(make_of_kind, 5);
}

/* ---- mark procedures ---- */

static unsigned long proc_calls; /* atomic */

static struct GC_ms_entry *mark_by_env(GC_word *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                       GC_word env) {
  __atomic_fetch_add(&proc_calls, 1, __ATOMIC_RELAXED);
  return GC_MARK_AND_PUSH((void *)object[env], stack, limit, (void **)&object[env]);
}

static void test_proc(void) {
  unsigned first = GC_new_proc(mark_by_env), second = GC_new_proc(mark_by_env);
  CHECK(first >= GC_RESERVED_MARK_PROCS && second > first && second < GC_MAX_MARK_PROCS);
  kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC((GC_word)second, (GC_word)3), 0, 1);
  proc_calls = 0;
  check_word_counts(make_of_kind, 3);
  CHECK(proc_calls >= COUNT);
  check_word_ignored(make_of_kind, 4);
}

/* A long list is marked through its procedure without running out of stack. */
static struct GC_ms_entry *mark_next(GC_word *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                     GC_word env) {
  (void)env;
  return GC_MARK_AND_PUSH((void *)object[1], stack, limit, (void **)&object[1]);
}

static void test_long_list(void) {
  enum { LENGTH = 300000 };
  unsigned proc = GC_new_proc(mark_next);
  kind = (int)GC_new_kind(GC_new_free_list(), GC_MAKE_PROC((GC_word)proc, (GC_word)0), 0, 1);
  GC_word **list = NULL;
  for (GC_word i = 0; i < LENGTH; i++) {
    GC_word **cell = GC_generic_malloc(3 * sizeof(void *), kind);
    cell[1] = (GC_word *)list;
    cell[2] = (GC_word *)i;
    list = cell;
  }
  GC_gcollect();
  for (GC_word i = 0; i < LENGTH; i++) GC_generic_malloc(3 * sizeof(void *), kind);
  GC_word expected = LENGTH;
  for (; list; list = (GC_word **)list[1]) CHECK_EQUAL((GC_word)list[2], --expected);
  CHECK_EQUAL(expected, 0);
}

/* ---- descriptors in the object ---- */

/* The descriptor is in the object's last word. */
static void **make_with_last_word(void) {
  void **object = make_of_kind();
  size_t words = GC_size(object) / sizeof(void *);
  ((GC_word *)object)[words - 1] = bit_of_word(2) | GC_DS_BITMAP;
  return object;
}

/* The descriptor is in the second word of the structure that the first word points to. */
struct type {
  const char *name;
  GC_word descriptor;
};
static const struct type some_type = {"some", (GC_word)1 << (8 * sizeof(GC_word) - 1 - 3) | GC_DS_BITMAP};

static void **make_with_type(void) {
  void **object = make_of_kind();
  object[0] = (void *)&some_type;
  return object;
}

static void test_per_object(void) {
  GC_word last_word = (GC_word)(-(GC_signed_word)sizeof(GC_word)) | GC_DS_PER_OBJECT;
  kind = (int)GC_new_kind(GC_new_free_list(), last_word, 1, 1);
  check_word_counts(make_with_last_word, 2);
  check_word_ignored(make_with_last_word, 1);
  GC_word through_type = (GC_word)(-(GC_signed_word)sizeof(GC_word) - GC_INDIR_PER_OBJ_BIAS) | GC_DS_PER_OBJECT;
  kind = (int)GC_new_kind(GC_new_free_list(), through_type, 0, 1);
  check_word_counts(make_with_type, 3);
  check_word_ignored(make_with_type, 4);
  make_of_kind(); /* an object without a type yet is no harm */
  GC_gcollect();
}

static void **make_gcj(void) { return GC_gcj_malloc(WORDS * sizeof(void *), (void *)&some_type); }

static void test_gcj(void) {
  GC_init_gcj_malloc(GC_GCJ_RESERVED_MARK_PROC_INDEX, (void *)(GC_mark_proc)mark_by_env);
  CHECK(GC_size(make_gcj()) >= WORDS * sizeof(void *));
  CHECK(GC_size(GC_gcj_malloc(0, (void *)&some_type)) >= sizeof(void *));
  check_word_counts(make_gcj, 3);
  check_word_ignored(make_gcj, 4);
  CHECK_EQUAL(GC_get_kind_and_size(make_gcj(), NULL), GC_gcj_kind); /* whatever the type leads to */
  CHECK_EQUAL(GC_get_kind_and_size(GC_base(GC_debug_gcj_malloc(64, (void *)&some_type, GC_EXTRAS)), NULL),
              GC_gcj_debug_kind);
}

/* ---- free lists ---- */

static void test_inline(void) {
  void **lists = GC_malloc_uncollectable(GC_TINY_FREELISTS * sizeof(void *));
  void **all = GC_malloc(COUNT * sizeof(void *));
  for (int i = 0; i < COUNT; i++) {
    GC_word *object;
    GC_FAST_MALLOC_GRANS(object, 2, lists, 0, GC_I_NORMAL, GC_malloc(2 * GC_GRANULE_BYTES), *(void **)object = NULL);
    CHECK(object[0] == 0 && object[1] == 0 && object[2] == 0 && object[3] == 0);
    object[0] = object[1] = (GC_word)i;
    all[i] = object;
    if (i % 50 == 0) GC_gcollect();
  }
  for (int i = 0; i < COUNT; i++) CHECK_EQUAL(((GC_word *)all[i])[1], i);
  void *large;
  GC_FAST_MALLOC_GRANS(large, GC_TINY_FREELISTS, lists, 0, GC_I_NORMAL, GC_malloc(1000), (void)0);
  CHECK(GC_size(large) >= 1000);
  GC_free(lists);
}

static void test_generic_many(void) {
  kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 1);
  int kinds[] = {GC_I_PTRFREE, GC_I_NORMAL, kind};
  for (int i = 0; i < 3; i++) {
    void **list = GC_malloc(sizeof(void *));
    GC_generic_malloc_many(48, kinds[i], list);
    CHECK(*list != NULL);
    for (void *at = *list; at; at = *(void **)at) {
      CHECK(GC_base(at) == at && GC_size(at) >= 48);
      CHECK_EQUAL(GC_get_kind_and_size(at, NULL), kinds[i]);
    }
  }
}

int main(void) {
  GC_INIT();
  CHECK((GC_word)GC_least_plausible_heap_addr <= (GC_word)GC_malloc(10));
  CHECK((GC_word)GC_greatest_plausible_heap_addr >= (GC_word)GC_malloc(100000) + 100000);
  test_built_in();
  test_length();
  test_bitmap();
  test_proc();
  test_long_list();
  test_per_object();
  test_gcj();
  test_inline();
  test_generic_many();
  return 0;
}
