/* Whether memory stands behind pages: helpers over arena->residency.  All run under the page heap's lock. */
#ifndef MIDDEN_PAGE_RESIDENCY_H
#define MIDDEN_PAGE_RESIDENCY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "page/arena.h"

static inline uint8_t *residency_at(const struct arena *arena, uintptr_t address) {
  return &arena->residency[arena_page_of(arena, address)];
}

/* How many of `pages` pages from `start` are in a state. */
static inline size_t residency_count(const struct arena *arena, uintptr_t start, size_t pages,
                                     enum page_residency residency) {
  const uint8_t *bytes = residency_at(arena, start);
  size_t count = 0;
  for (size_t i = 0; i < pages; i++) count += bytes[i] == residency;
  return count;
}

static inline void residency_set(struct arena *arena, uintptr_t start, size_t pages, enum page_residency residency) {
  memset(residency_at(arena, start), residency, pages);
}

#endif
