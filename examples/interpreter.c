/* What a small interpreter needs: a kind with a trace function, and roots that only the program knows.
 *
 * Values are tagged words, of which the collector could not tell references from numbers: a trace function and a root
 * callback tell it.  The interpreter's stack is memory of malloc, which the collector does not look at. */
#include <assert.h>
#include <midden/midden.h>
#include <stdio.h>
#include <stdlib.h>

/* Odd: a number, shifted left.  Even: the address of a pair plus PAIR_TAG. */
typedef uintptr_t value;
enum { PAIR_TAG = 8 };

struct pair {
  value first, rest;
};

static value *stack;
static size_t depth;
static int pair_kind;

static value from_number(intptr_t number) { return (uintptr_t)number << 1 | 1; }
static intptr_t to_number(value word) { return (intptr_t)word >> 1; }
static struct pair *to_pair(value word) {
  return (word & 1) != 0 || word == 0 ? NULL : (struct pair *)(word - PAIR_TAG);
}

/* Runs while the world is stopped: no allocation, no locks.  An object may be there before it was written: all zero. */
static void trace_pair(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  const struct pair *pair = object;
  (void)slot_bytes, (void)argument;
  midden_trace(tracer, to_pair(pair->first));
  midden_trace(tracer, to_pair(pair->rest));
}

static void trace_stack(struct midden_tracer *tracer, void *argument) {
  (void)argument;
  for (size_t i = 0; i < depth; i++) midden_trace(tracer, to_pair(stack[i]));
}

/* Replaces the two values on top of the stack by a pair of them: while it allocates, both are on the stack. */
static void make_pair(void) {
  struct pair *pair = midden_alloc_kind((midden_kind)pair_kind, sizeof *pair);
  assert(pair != NULL);
  *pair = (struct pair){.first = stack[depth - 2], .rest = stack[depth - 1]};
  stack[--depth - 1] = (uintptr_t)pair + PAIR_TAG;
}

/* Pushes the list 1, 2, ... count. */
static void push_list(int count) {
  stack[depth++] = 0;
  for (int i = count; i > 0; i--) {
    stack[depth] = stack[depth - 1];
    stack[depth++ - 1] = from_number(i);
    make_pair();
  }
}

static intptr_t sum(value list) {
  intptr_t total = 0;
  for (; list != 0; list = to_pair(list)->rest) total += to_number(to_pair(list)->first);
  return total;
}

int main(void) {
  struct midden_kind_options options = {.size = sizeof options, .name = "pair", .trace = trace_pair};
  pair_kind = midden_kind_new(&options);
  stack = malloc(100 * sizeof *stack);
  assert(pair_kind >= 0 && stack != NULL);
  midden_set_root_callback(trace_stack, NULL);

  push_list(1000);
  for (int i = 0; i < 1000; i++) {
    push_list(1000);
    depth--; /* garbage */
  }
  midden_collect();

  struct midden_stats stats = {.size = sizeof stats};
  midden_stats(&stats);
  printf("sum %ld after %llu collections; %zu objects are left of %d\n", (long)sum(stack[0]),
         (unsigned long long)stats.collections, stats.objects_marked, 1001 * 1000);
  assert(sum(stack[0]) == 500500 && stats.objects_marked < 100000);
  return 0;
}
