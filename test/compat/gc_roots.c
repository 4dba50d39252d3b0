/* Roots: added and removed ranges, static data, exclusions, objects marked by hand. */
#include <unistd.h>

#include "gc_check.h"

#include "gc/gc_mark.h"

static void *in_static_data[COUNT];

static NOINLINE void fill(void **slots) {
  for (int i = 0; i < COUNT; i++) check_watch(i, slots[i] = GC_malloc(40));
}

static int count_dead_of(void **slots) {
  fill(slots);
  check_collect();
  int dead = check_count_dead();
  memset(slots, 0, COUNT * sizeof(void *));
  return dead;
}

#define CHECK_ARE_ROOTS(slots) CHECK_EQUAL(count_dead_of(slots), 0)
#define CHECK_ARE_NO_ROOTS(slots) CHECK(count_dead_of(slots) > NEARLY_ALL)

static void test_ranges(void) {
  void **slots = malloc((COUNT + 1) * sizeof(void *));
  memset(slots, 0, COUNT * sizeof(void *));
  CHECK_ARE_NO_ROOTS(slots);
  GC_add_roots(slots, slots + COUNT);
  CHECK_ARE_ROOTS(slots);
  GC_add_roots(slots, slots + COUNT); /* twice is once */
  CHECK_ARE_ROOTS(slots);
  GC_remove_roots(slots, slots + COUNT);
  CHECK_ARE_NO_ROOTS(slots);
  GC_add_roots((char *)slots - 3, (char *)(slots + COUNT) + 3); /* rounded to whole words inside */
  CHECK_ARE_ROOTS(slots);
  GC_remove_roots((char *)slots - 3, (char *)(slots + COUNT) + 3);
  CHECK_ARE_NO_ROOTS(slots);
  free(slots);
}

/* Removing takes out the ranges that lie wholly inside what is removed, and leaves the others every word they have. */
static void test_overlapping_ranges(void) {
  void **slots = calloc(3 * COUNT, sizeof(void *));
  GC_add_roots(slots, slots + 2 * COUNT);
  GC_add_roots(slots + COUNT, slots + 3 * COUNT);
  GC_remove_roots(slots + COUNT / 2, slots + COUNT);
  CHECK_ARE_ROOTS(slots);
  GC_remove_roots(slots + COUNT, slots + 3 * COUNT);
  CHECK_ARE_ROOTS(slots + COUNT);
  CHECK_ARE_NO_ROOTS(slots + 2 * COUNT);
  GC_add_roots(slots, slots + COUNT); /* starts where a longer one does: the same range */
  GC_remove_roots(slots, slots + COUNT);
  CHECK_ARE_ROOTS(slots);
  GC_add_roots(slots, slots + 3 * COUNT); /* and grows here */
  GC_remove_roots(slots, slots + 2 * COUNT);
  CHECK_ARE_ROOTS(slots);
  CHECK_ARE_ROOTS(slots + 2 * COUNT);
  GC_remove_roots((char *)slots - 100, slots + 3 * COUNT + 10);
  for (int i = 0; i < 3; i++) CHECK_ARE_NO_ROOTS(slots + (size_t)i * COUNT);
  free(slots);
}

/* A cleared range is forgotten: what is added later can be removed for good. */
static void test_added_after_clear(void) {
  void **slots = calloc(2 * COUNT, sizeof(void *));
  GC_add_roots(slots, slots + 2 * COUNT);
  GC_clear_roots();
  GC_add_roots(slots, slots + COUNT);
  CHECK_ARE_ROOTS(slots);
  GC_remove_roots(slots, slots + COUNT);
  CHECK_ARE_NO_ROOTS(slots);
  free(slots);
}

static void *add_and_remove(void *argument) {
  void **slots = argument;
  for (int i = 0; i < 2000; i++) {
    size_t from = (size_t)i % COUNT;
    GC_add_roots(slots + from, slots + COUNT);
    GC_remove_roots(slots + from, slots + COUNT);
  }
  return argument;
}

/* Ranges are added and removed by several threads, each in memory that lies inside a range of the main one's. */
static void test_ranges_of_threads(void) {
  enum { THREADS = 4 };
  void **all = calloc(1 + THREADS * COUNT, sizeof(void *)), **slots = all + 1;
  pthread_t threads[THREADS];
  GC_add_roots(all, slots + THREADS * COUNT);
  for (int i = 0; i < THREADS; i++)
    CHECK_EQUAL(pthread_create(&threads[i], NULL, add_and_remove, slots + (size_t)i * COUNT), 0);
  for (int i = 0; i < 3; i++) CHECK_ARE_ROOTS(slots + (THREADS - 1) * COUNT);
  for (int i = 0; i < THREADS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
  CHECK_ARE_ROOTS(slots);
  GC_remove_roots(all, slots + THREADS * COUNT);
  CHECK_ARE_NO_ROOTS(slots);
  free(all);
}

static void test_odd_ranges(void) {
  void *word = NULL;
  GC_add_roots(&word, &word);
  GC_add_roots((char *)&word + 1, (char *)&word + 7);
  GC_remove_roots(&word, &word);
  GC_remove_roots((void *)8, (void *)16);
  GC_gcollect();
}

/* ---- static data ---- */

static void test_static_data(void) {
  CHECK_ARE_ROOTS(in_static_data);
  GC_set_no_dls(1);
  CHECK_EQUAL(GC_get_no_dls(), 1);
  CHECK_ARE_NO_ROOTS(in_static_data);
  GC_add_roots(in_static_data, in_static_data + COUNT);
  CHECK_ARE_ROOTS(in_static_data);
  GC_clear_roots();
  CHECK_ARE_NO_ROOTS(in_static_data);
  GC_set_no_dls(0);
  CHECK_ARE_ROOTS(in_static_data);
}

/* The variable, written after the start. */
static void test_no_dls_variable(void) {
  GC_no_dls = 1;
  CHECK_ARE_NO_ROOTS(in_static_data);
  GC_no_dls = 0;
  CHECK_ARE_ROOTS(in_static_data);
}

/* Cleared roots of the static data come back by themselves. */
static void test_clear(void) {
  void **slots = calloc(COUNT, sizeof(void *));
  GC_add_roots(slots, slots + COUNT);
  GC_clear_roots();
  CHECK_ARE_NO_ROOTS(slots);
  CHECK_ARE_ROOTS(in_static_data);
  free(slots);
}

static int asked, asked_for_data;

static int has_static_roots(const char *name, void *start, size_t bytes) {
  CHECK(name != NULL && start != NULL && bytes > 0);
  char *data = (char *)in_static_data;
  int ours = data >= (char *)start && data < (char *)start + bytes;
  asked++;
  asked_for_data += ours;
  return !ours;
}

static void test_static_roots_callback(void) {
  GC_register_has_static_roots_callback(has_static_roots);
  CHECK_ARE_NO_ROOTS(in_static_data);
  CHECK(asked > 0 && asked_for_data > 0);
  GC_register_has_static_roots_callback(NULL);
  CHECK_ARE_ROOTS(in_static_data);
}

static void test_exclusion(void) {
  static void *apart[3 * COUNT];
  GC_exclude_static_roots(apart + COUNT, apart + 2 * COUNT);
  CHECK_ARE_ROOTS(apart);
  CHECK_ARE_NO_ROOTS(apart + COUNT);
  CHECK_ARE_ROOTS(apart + 2 * COUNT);
}

/* What is excluded is no root where the program added it, before or after, either.  Exclusions are for good: the memory is
 * not freed. */
static void test_exclusion_of_added(void) {
  static void **slots;
  slots = calloc(6 * COUNT, sizeof(void *));
  GC_add_roots(slots, slots + 3 * COUNT);
  GC_exclude_static_roots(slots + COUNT, slots + 2 * COUNT);
  for (void **slot = slots + 4 * COUNT; slot < slots + 5 * COUNT; slot++)
    GC_exclude_static_roots((char *)slot + 1, (char *)slot + 7); /* rounded to whole words outside */
  GC_add_roots(slots + 3 * COUNT, slots + 6 * COUNT);
  for (size_t i = 0; i < 6; i++) {
    if (i == 1 || i == 4) {
      CHECK_ARE_NO_ROOTS(slots + i * COUNT);
    } else {
      CHECK_ARE_ROOTS(slots + i * COUNT);
    }
  }
  GC_remove_roots(slots, slots + 6 * COUNT);
  CHECK_ARE_NO_ROOTS(slots + 2 * COUNT);
}

/* ---- reported while marking ---- */

static GC_word hidden_object;
static GC_push_other_roots_proc push_before;

/* Keeps an object as a whole but reports only its first half: what runtimes do with the stacks of their own. */
static void push_half(void) {
  void **object = GC_REVEAL_POINTER(hidden_object);
  GC_set_mark_bit(object);
  GC_push_conditional(object, object + COUNT, 1);
  push_before();
}

static NOINLINE void make_hidden_object(void) {
  hidden_object = GC_HIDE_POINTER(GC_malloc(2 * COUNT * sizeof(void *)));
}

static NOINLINE void fill_hidden_object(size_t from) { fill((void **)GC_REVEAL_POINTER(hidden_object) + from); }

static int count_dead_of_half(size_t from) {
  fill_hidden_object(from);
  check_collect();
  return check_count_dead();
}

static void test_mark_bit(void) {
  push_before = GC_get_push_other_roots();
  make_hidden_object();
  GC_set_push_other_roots(push_half);
  CHECK_EQUAL(count_dead_of_half(0), 0);
  CHECK(count_dead_of_half(COUNT) > NEARLY_ALL);
  CHECK(GC_size(GC_REVEAL_POINTER(hidden_object)) >= 2 * COUNT * sizeof(void *));
  GC_set_push_other_roots(push_before);
}

/* Outside of a mark phase the reports are nothing. */
static void test_push_outside(void) {
  void *word = GC_malloc(40);
  GC_push_all(&word, &word);
  CHECK(word != NULL);
}

int main(void) {
  GC_INIT();
  test_ranges();
  test_overlapping_ranges();
  test_added_after_clear();
  test_ranges_of_threads();
  test_odd_ranges();
  test_static_data();
  test_no_dls_variable();
  test_clear();
  test_static_roots_callback();
  test_exclusion();
  test_exclusion_of_added();
  test_mark_bit();
  test_push_outside();
  return 0;
}
