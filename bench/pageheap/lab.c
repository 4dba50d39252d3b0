#include "lab.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"

#define LAB_START ((uintptr_t)1 << 45)

static uint64_t clock_ns;

static uint64_t count_calls(void) { return ++clock_ns; }

static int release_nothing(void *start, size_t bytes) {
  (void)start, (void)bytes;
  return 0;
}

static void reclaim_nothing(size_t pages) { (void)pages; }

_Noreturn static void give_up(const char *what) {
  fprintf(stderr, "bench: page heap: no memory for %s\n", what);
  exit(1);
}

void lab_open(struct lab *lab, size_t bytes, uint64_t seed) {
  static const struct pageheap_hooks hooks = {
      .now_ns = count_calls, .release = release_nothing, .reclaim = reclaim_nothing};
  *lab = (struct lab){.random = seed};
  if (arena_init_fake(&lab->arena, LAB_START, bytes) != 0) give_up("the tables");
  pageheap_init(&lab->heap, &lab->arena, &hooks);
  lab->held = malloc((bytes >> PAGE_SHIFT) * sizeof(struct span *)); /* touched as far as it is used */
  if (lab->held == NULL) give_up("the list of spans");
}

/* A Weyl sequence, mixed. */
size_t lab_random(struct lab *lab, size_t bound) {
  uint64_t value = lab->random += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 32)) * 0xd6e8feb86659fd93u;
  value = (value ^ (value >> 29)) * 0xa0761d6478bd642fu;
  return (size_t)((value ^ (value >> 32)) % bound);
}

size_t lab_random_between(struct lab *lab, size_t low, size_t high) { return low + lab_random(lab, high - low); }

size_t lab_random_size(struct lab *lab, size_t limit) {
  size_t bound = (size_t)2 << lab_random(lab, lowest_bit(limit));
  return 1 + lab_random(lab, bound);
}

size_t lab_pages_left(const struct lab *lab) {
  return ((lab->arena.end - lab->arena.start) >> PAGE_SHIFT) - lab->laid_pages;
}

struct span *lab_lay(struct lab *lab, size_t pages) {
  struct span *span = pageheap_alloc(&lab->heap, pages, SPAN_IN_USE, true);
  if (span == NULL) give_up("a span to lay");
  lab->laid_pages += pages;
  return span;
}

struct span *lab_take(struct lab *lab, size_t pages, size_t alignment) {
  lab->asked_pages += pages;
  lab->asked_count++;
  struct span *span = pageheap_alloc_aligned(&lab->heap, pages, alignment, SPAN_IN_USE, true);
  if (span == NULL) lab->refused_count++;
  return span;
}

void lab_hold(struct lab *lab, struct span *span) { lab->held[lab->held_count++] = span; }

void lab_drop(struct lab *lab, size_t index) {
  struct span *span = lab->held[index];
  lab->held[index] = lab->held[--lab->held_count];
  pageheap_free(&lab->heap, span);
}

void lab_drop_all(struct lab *lab) {
  while (lab->held_count > 0) lab_drop(lab, lab_random(lab, lab->held_count));
}

uint64_t lab_tree_steps(const struct lab *lab) {
  const struct spantree *resident = &lab->heap.free.resident.large, *absent = &lab->heap.free.absent.large;
  return resident->comparisons + resident->rotations + absent->comparisons + absent->rotations;
}
