/* Misuses an object in the ways that the arguments name, for a memory checker to report: see checkers.sh.
 *
 *   clean       nothing wrong: allocates, collects, frees
 *   collected   reads an object that was collected, by a pointer that the collector could not see
 *   freed       reads an object after midden_free
 *   overrun     writes one byte beyond the size asked for, inside the slot
 *   typed       the same behind a typed object
 *   large       the same behind a large object
 *   raw         branches on memory of MIDDEN_RAW that was never written
 *   zeroed      branches on memory of midden_alloc that was never written, which is zero: nothing wrong
 *   tail        writes into a zone, then collects: the library's own check */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "midden/midden.h"

enum { BYTES = 40, CHURN = 4000 };

#define NOINLINE_PROBE __attribute__((noinline))

static volatile uintptr_t hidden; /* the complement of an address */
static volatile int sink;

static volatile char *reveal(void) { return (volatile char *)~hidden; }

NOINLINE_PROBE static void make(midden_kind kind, size_t bytes) {
  char *object = midden_alloc_kind(kind, bytes);
  if (kind != MIDDEN_RAW && bytes == BYTES) memset(object, 1, bytes);
  hidden = ~(uintptr_t)object;
}

/* Overwrites what calls left on the stack, and what they left in the registers. */
NOINLINE_PROBE static void forget(void) {
  volatile char dead[32 << 10];
  for (size_t i = 0; i < sizeof(dead); i++) dead[i] = 0;
}

struct node {
  struct node *next;
  long number;
};

static const uint64_t node_pointers = 1;
static const struct midden_type node_type = {"node", sizeof(struct node), &node_pointers, NULL, NULL};

static int clean(void) {
  struct node *list = NULL;
  long sum = 0;
  for (long i = 0; i < CHURN; i++) {
    struct node *node = i % 3 == 0 ? midden_alloc_type(&node_type) : midden_alloc(sizeof(*node));
    *node = (struct node){i % 100 == 0 ? NULL : list, i};
    list = node;
    char *text = midden_alloc_data(1 + (size_t)i % 50);
    text[i % 50] = 1;
    if (i % 7 == 0) midden_free(midden_realloc(midden_alloc_kind(MIDDEN_RAW, 100), 200));
    if (i % 500 == 0) midden_collect();
  }
  for (struct node *node = list; node != NULL; node = node->next) sum += node->number;
  midden_verify();
  printf("%ld\n", sum);
  return 0;
}

static int use(const char *what) {
  if (strcmp(what, "clean") == 0) return clean();
  if (strcmp(what, "collected") == 0) {
    make(MIDDEN_CONSERVATIVE, BYTES);
    forget();
    midden_collect();
    return reveal()[8];
  }
  if (strcmp(what, "freed") == 0) {
    make(MIDDEN_CONSERVATIVE, 2 * BYTES);
    midden_free((void *)reveal());
    return reveal()[8];
  }
  if (strcmp(what, "overrun") == 0 || strcmp(what, "tail") == 0) {
    make(MIDDEN_CONSERVATIVE, BYTES);
    reveal()[BYTES] = 1;
    forget();
    midden_collect();
    return 0;
  }
  if (strcmp(what, "typed") == 0) {
    volatile char *node = midden_alloc_type(&node_type);
    return node[sizeof(struct node)];
  }
  if (strcmp(what, "large") == 0) {
    make(MIDDEN_RAW, 100000);
    return reveal()[100000];
  }
  make(strcmp(what, "raw") == 0 ? MIDDEN_RAW : MIDDEN_CONSERVATIVE, BYTES + 1);
  if (reveal()[8] == 77) sink = 1;
  return 0;
}

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    sink = use(arguments[i]);
    if (sink == 77) hidden = 0;
  }
  puts("went on to the end");
  return 0;
}
