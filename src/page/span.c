#include "page/span.h"

#include "base/atomic.h"
#include "base/check.h"

uint32_t span_generation;
bool span_marking;

void span_set_range(struct span *span, uintptr_t start, size_t page_count) {
  ASSERT(span_state(span) == SPAN_DEAD || span_state(span) == SPAN_FREE);
  atomic_store_release(&span->start, start); /* both pair with arena_span_of */
  atomic_store_release(&span->page_count, page_count);
}

enum span_state span_state(const struct span *span) {
  return (enum span_state)(span_state_word(span) & SPAN_STATE_MASK);
}

static bool is_legal(enum span_state from, enum span_state to, bool marking) {
  switch (from) {
    case SPAN_DEAD:
      return to == SPAN_FREE;
    case SPAN_FREE:
      return to == SPAN_IN_USE || to == SPAN_STACK || to == SPAN_DEAD;
    case SPAN_IN_USE:
    case SPAN_STACK:
      return to == SPAN_FREE && !marking;
  }
  return false;
}

/* The release pairs with the acquire in span_state: who sees IN_USE or STACK sees the range that was written before. */
static void step(struct span *span, enum span_state state, bool marking) {
  uint32_t word = atomic_load_relaxed(&span->state);
  enum span_state old = (enum span_state)(word & SPAN_STATE_MASK);
  CHECK(is_legal(old, state, marking), "span %p at %p, %zu pages: illegal step from %s to %s%s", (void *)span,
        (void *)span->start, span->page_count, span_state_name(old), span_state_name(state),
        marking ? " while marking" : "");
  atomic_store_release(&span->state, (word & ~(uint32_t)SPAN_STATE_MASK) + SPAN_STATE_STEP + (uint32_t)state);
}

void span_set_state(struct span *span, enum span_state state) { step(span, state, atomic_load_relaxed(&span_marking)); }

void span_take_back(struct span *span) {
  ASSERT(span_state(span) == SPAN_STACK);
  step(span, SPAN_FREE, false);
}

const char *span_state_name(enum span_state state) {
  switch (state) {
    case SPAN_DEAD:
      return "dead";
    case SPAN_FREE:
      return "free";
    case SPAN_IN_USE:
      return "in use";
    case SPAN_STACK:
      return "stack";
  }
  return "corrupt";
}
