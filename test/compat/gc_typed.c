/* Typed objects: only the words that the bitmap names hold what they point to. */
#include "gc_check.h"

#include "gc/gc_typed.h"

enum { LONG_WORDS = 150 };

static GC_descr descriptor;
static size_t object_words;

typedef void **maker(void);

static NOINLINE void fill(void ***objects, maker *make, size_t word) {
  for (int i = 0; i < COUNT; i++) {
    void **object = make();
    void *target = GC_malloc(56);
    CHECK(object[word] == NULL);
    object[word] = target;
    check_watch(i, target);
    objects[i] = object;
  }
}

static int count_dead_behind(maker *make, size_t word) {
  void ***objects = GC_malloc(COUNT * sizeof(void *));
  fill(objects, make, word);
  check_collect();
  GC_reachable_here(objects);
  return check_count_dead();
}

static void **make_one(void) {
  void **object = GC_malloc_explicitly_typed(object_words * sizeof(void *), descriptor);
  CHECK(object != NULL && GC_base(object) == object && GC_size(object) >= object_words * sizeof(void *));
  return object;
}

enum { ELEMENTS = 5 };

static void **make_array(void) {
  void **array = GC_calloc_explicitly_typed(ELEMENTS, object_words * sizeof(void *), descriptor);
  CHECK(array != NULL && GC_size(array) >= ELEMENTS * object_words * sizeof(void *));
  return array;
}

static void check_bitmap(const GC_word *bitmap, size_t words, size_t pointer, size_t other) {
  object_words = words;
  descriptor = GC_make_descriptor(bitmap, words);
  CHECK_EQUAL(count_dead_behind(make_one, pointer), 0);
  CHECK(count_dead_behind(make_one, other) > NEARLY_ALL);
  for (size_t element = 0; element < ELEMENTS; element += 2) {
    CHECK_EQUAL(count_dead_behind(make_array, element * words + pointer), 0);
    CHECK(count_dead_behind(make_array, element * words + other) > NEARLY_ALL);
  }
}

static void test_bitmaps(void) {
  GC_word small[1] = {0}, wide[1] = {0}, tall[GC_BITMAP_SIZE(void *[LONG_WORDS])] = {0};
  GC_set_bit(small, 1);
  check_bitmap(small, 3, 1, 2);
  GC_set_bit(small, 0);
  check_bitmap(small, 3, 0, 2); /* a run from the start */
  GC_set_bit(wide, 3);
  GC_set_bit(wide, 61);
  check_bitmap(wide, 64, 61, 62);
  GC_set_bit(tall, 2);
  GC_set_bit(tall, 63);
  GC_set_bit(tall, 64);
  GC_set_bit(tall, LONG_WORDS - 1);
  check_bitmap(tall, LONG_WORDS, 64, 65);
  check_bitmap(tall, LONG_WORDS, LONG_WORDS - 1, LONG_WORDS - 2);
}

static void test_no_pointers(void) {
  GC_word none[1] = {0};
  object_words = 4;
  descriptor = GC_make_descriptor(none, 4);
  for (size_t word = 0; word < 4; word++) CHECK(count_dead_behind(make_one, word) > NEARLY_ALL);
}

static void test_all_pointers(void) {
  GC_word all[1] = {0xf};
  object_words = 4;
  descriptor = GC_make_descriptor(all, 4);
  for (size_t word = 0; word < 4; word++) CHECK_EQUAL(count_dead_behind(make_one, word), 0);
  for (size_t word = 0; word < 4 * ELEMENTS; word += 3) CHECK_EQUAL(count_dead_behind(make_array, word), 0);
}

/* Large objects: the descriptor is far from the start. */
static void test_large(void) {
  GC_word bitmap[1] = {1 << 5};
  object_words = 5000;
  descriptor = GC_make_descriptor(bitmap, 6);
  void **object = make_one();
  object[5] = GC_strdup("held");
  check_collect();
  GC_malloc(40);
  CHECK(strcmp(object[5], "held") == 0);
}

/* ---- while the collector marks ---- */

enum { OLD_NODES = 100000, STORES = 3000000, FRESH = -1 };

struct node {
  struct node *next, *other;
  long value; /* no reference */
};

static struct node *old_nodes;

static struct node *make_node(long value) {
  struct node *node = GC_malloc_explicitly_typed(sizeof(*node), descriptor);
  CHECK(node != NULL);
  node->value = value;
  return node;
}

/* Each old node in turn is given a fresh one, which nothing else keeps. */
static void test_stores(void) {
  GC_word bitmap[1] = {3};
  descriptor = GC_make_descriptor(bitmap, sizeof(struct node) / sizeof(void *));
  for (long i = 0; i < OLD_NODES; i++) {
    struct node *node = make_node(i);
    node->next = old_nodes;
    old_nodes = node;
  }
  struct node *at = old_nodes;
  for (int i = 0; i < STORES; i++) {
    CHECK(at->other == NULL || at->other->value == FRESH);
    at->other = make_node(FRESH);
    at = at->next ? at->next : old_nodes;
  }
  long count = OLD_NODES;
  for (at = old_nodes; at; at = at->next) CHECK_EQUAL(at->value, --count);
  CHECK_EQUAL(count, 0);
}

static void *no_memory(size_t bytes) {
  (void)bytes;
  return NULL;
}

static void test_bad_sizes(void) {
  GC_word bitmap[1] = {1};
  descriptor = GC_make_descriptor(bitmap, 2);
  GC_set_oom_fn(no_memory);
  GC_set_warn_proc(GC_ignore_warn_proc);
  volatile size_t huge = ~(size_t)0;
  CHECK(GC_malloc_explicitly_typed(huge, descriptor) == NULL);
  CHECK(GC_calloc_explicitly_typed(huge / 2, 16, descriptor) == NULL);
  CHECK(GC_malloc_explicitly_typed(0, descriptor) != NULL);
}

int main(void) {
  GC_INIT();
  test_bitmaps();
  test_no_pointers();
  test_all_pointers();
  test_large();
  test_stores();
  test_bad_sizes();
  return 0;
}
