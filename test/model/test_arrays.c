/* Large objects full of references, against a naive model: each word of an array is the only reference to an object of its
 * own, which says which word that is.  Sizes lie around those at which a large object is marked in pieces and groups of
 * them (gc/mark.c).  After collections every object is what it was: one that a piece passed over would have been swept, and
 * its slot given to the objects that are made meanwhile. */
#include "midden/barrier.h"
#include "support/heap_test.h"

enum { PIECE = 4096, GROUP = 8 * PIECE, ARRAYS = 12, GROUPS_MOST = 6 };

struct element {
  uint64_t array, index;
  struct element *self;
};

struct array {
  struct element **elements;
  size_t count;
};

static struct array *arrays;
static uint64_t made;

static struct element *new_element(uint64_t array, uint64_t index) {
  struct element *element = midden_alloc(sizeof *element);
  REQUIRE(element != NULL, "out of memory");
  element->array = array;
  element->index = index;
  midden_store(&element->self, element);
  return element;
}

/* A piece or a group more or less, a word more or less. */
static size_t random_count(struct rng *rng) {
  size_t bytes = (rng_below(rng, GROUPS_MOST) + 1) * GROUP + rng_below(rng, 3) * PIECE;
  return bytes / sizeof(void *) + rng_below(rng, 3) - 1;
}

NOINLINE_TEST static void replace(struct array *array, struct rng *rng) {
  size_t count = random_count(rng);
  struct element **elements = midden_alloc(count * sizeof(struct element *));
  REQUIRE(elements != NULL, "out of memory");
  array->count = 0;
  midden_store(&array->elements, elements);
  array->count = count;
  for (size_t i = 0; i < count; i++) midden_store(&elements[i], new_element((uint64_t)(array - arrays), i));
  made++;
}

NOINLINE_TEST static void check(const struct array *array) {
  for (size_t i = 0; i < array->count; i++) {
    const struct element *element = array->elements[i];
    REQUIRE(element->array == (uint64_t)(array - arrays) && element->index == i && element->self == element,
            "word %zu of %zu of array %td lost its object", i, array->count, array - arrays);
  }
}

int main(void) {
  struct rng rng = test_start("arrays");
  arrays = midden_alloc_root(ARRAYS * sizeof *arrays);
  REQUIRE(arrays != NULL, "out of memory");
  for (size_t step = test_steps(120); step > 0; step--) {
    replace(&arrays[rng_below(&rng, ARRAYS)], &rng);
    if (rng_one_in(&rng, 4)) test_collect_clean();
    check(&arrays[rng_below(&rng, ARRAYS)]);
  }
  test_collect_clean();
  for (size_t i = 0; i < ARRAYS; i++) check(&arrays[i]);
  printf("%" PRIu64 " arrays, %" PRIu64 " collections\n", made, (uint64_t)test_stats().collections);
  return 0;
}
