/* Barrier mode, what markers do beside the program: slices of marking lose nothing of what they leave, no slot becomes an object because a
 * word names it, and chains of ephemerons are followed where there is no memory to note what comes next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gc/work.h"
#include "midden/barrier.h"
#include "span/guard.h"
#include "support/heap_test.h"

/* ---- slices ---- */

enum { DEPTH = 6, CHILDREN = 6, NODE_BYTES = (CHILDREN + 2) * sizeof(void *) };

struct node {
  struct node *children[CHILDREN];
  uintptr_t value;
};

static struct node *tree; /* several megabytes, many times what a slice marks */
static size_t nodes;

static struct node *grow(unsigned depth) {
  struct node *node = midden_alloc(NODE_BYTES);
  REQUIRE(node != NULL, "out of memory");
  node->value = ++nodes;
  for (unsigned i = 0; i < CHILDREN && depth != 0; i++) midden_store(&node->children[i], grow(depth - 1));
  return node;
}

/* Its nodes were made in preorder. */
static void check(const struct node *node, unsigned depth, size_t *count) {
  REQUIRE(midden_owns(node) && node->value == ++*count, "node %zu is lost", *count);
  for (unsigned i = 0; i < CHILDREN && depth != 0; i++) check(node->children[i], depth - 1, count);
}

static void slices_lose_nothing(void **state) {
  (void)state;
  midden_store(&tree, grow(DEPTH));
  for (int i = 0; i < 3; i++) {
    midden_collect();
    size_t count = 0;
    check(tree, DEPTH, &count);
    assert_int_equal(count, nodes);
  }
  midden_store(&tree, NULL);
}

/* ---- free slots ---- */

enum { SLOTS = 1024, SLOT_BYTES = 208 };

static uintptr_t names[SLOTS]; /* numbers, for all that the collector knows */
static void *neighbours[SLOTS / 2];

NOINLINE_TEST static void make_gaps(void) {
  for (size_t i = 0; i < SLOTS; i++) {
    void *object = midden_alloc(SLOT_BYTES);
    names[i] = test_hide(object);
    if (i % 2 == 0) midden_store(&neighbours[i / 2], object);
  }
}

static size_t count_objects(void) {
  size_t count = 0;
  for (size_t i = 1; i < SLOTS; i += 2) count += midden_owns((void *)names[i]);
  return count;
}

static void a_word_makes_no_object_of_a_free_slot(void **state) {
  (void)state;
  make_gaps();
  test_collect_clean();
  for (size_t i = 1; i < SLOTS; i += 2) names[i] = ~names[i];
  size_t before = count_objects(); /* some are kept by chance */
  assert_in_range(before, 0, SLOTS / 4);
  test_collect_clean();
  assert_in_range(count_objects(), 0, before);
  memset(names, 0, sizeof names);
  midden_verify();
}

/* ---- ephemerons ---- */

enum { LINKS = 40 };

static void *keys[LINKS + 1];
static struct midden_ephemeron *pairs[LINKS];
static uintptr_t hidden[LINKS + 1];

/* Each value is the key of the next pair, and lies before its own key: one pass over all finds one. */
NOINLINE_TEST static void make_chain(void) {
  for (size_t i = 0; i <= LINKS; i++) {
    midden_store(&keys[LINKS - i], midden_alloc(48));
    hidden[LINKS - i] = test_hide(keys[LINKS - i]);
  }
  for (size_t i = 0; i < LINKS; i++) midden_store(&pairs[i], midden_ephemeron_new(keys[i], keys[i + 1]));
  for (size_t i = 1; i <= LINKS; i++) midden_store(&keys[i], NULL);
}

static void take_all_buffers(void) {
  work_limit_buffers(1);
  while (work_get_empty() != NULL) continue;
}

NOINLINE_TEST static size_t count_links(void) {
  size_t count = 0;
  for (size_t i = 0; i < LINKS; i++) count += test_hide(midden_ephemeron_value(pairs[i])) == hidden[i + 1];
  return count;
}

/* The last test: none has buffers after it. */
static void chains_are_followed_without_memory(void **state) {
  (void)state;
  make_chain();
  take_all_buffers();
  test_collect_clean();
  assert_int_equal(count_links(), LINKS);
  midden_store(&keys[0], NULL);
  test_collect_clean();
  assert_in_range(count_links(), 0, LINKS - 1);
}

int main(void) {
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_BARRIER};
  REQUIRE(midden_init(&options) == 0, "no start");
  if (guard_active) return TEST_SKIPPED;
  alarm(60);
  const struct CMUnitTest tests[] = {
      test_scrubbed(slices_lose_nothing),
      test_scrubbed(a_word_makes_no_object_of_a_free_slot),
      test_scrubbed(chains_are_followed_without_memory),
  };
  return test_run_group(tests);
}
