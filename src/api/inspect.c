/* Questions about addresses, and walks over the heap. */
#include <errno.h>

#include "api/start.h"
#include "base/check.h"
#include "gc/collector.h"
#include "observe/verify.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/object.h"

void *midden_base(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object) ? (void *)object.start : NULL;
}

size_t midden_size(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object) ? object_usable_bytes(&object) : 0;
}

bool midden_owns(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object);
}

static int kind_for_program(unsigned kind) {
  if (kind == KIND_WEAK_TABLE) return MIDDEN_CONSERVATIVE;
  return kind >= KIND_TINY && kind < KINDS_OWN ? MIDDEN_DATA : (int)kind;
}

int midden_kind_of(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object) ? kind_for_program(object.span->kind) : -EINVAL;
}

void midden_heap_bounds(uintptr_t *start, uintptr_t *end) {
  start_ensure();
  *start = heap_arena.start - 1;
  *end = heap_arena.end;
}

struct visit {
  midden_visit_fn *function;
  void *argument;
};

static void visit_span(const struct span *span, const struct visit *visit) {
  FOR_EACH_BIT (object, alloc_side(), span->start, span_end(span))
    visit->function((void *)object, guard_active ? guard_size(span, object) : span_slot_bytes(span),
                    (unsigned)kind_for_program(span->kind), visit->argument);
}

/* Slots that a cache holds for objects to come are not objects: their bits are taken away for the visit. */
static void hide_window(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class, void *hide) {
  (void)cache, (void)kind;
  uintptr_t next = (uintptr_t)bin->next, limit = (uintptr_t)bin->limit;
  if (*(const bool *)hide) {
    mark_bits_clear_slots(&heap_arena, alloc_side(), next, limit, size_class_bytes[size_class]);
  } else {
    mark_bits_set_slots(&heap_arena, alloc_side(), next, limit, size_class_bytes[size_class]);
  }
}

static void hide_windows(bool hide) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_each_bin(&mutator_from(link)->cache, hide_window, &hide);
}

static void visit_all(void *argument) {
  uintptr_t at = heap_arena.start;
  hide_windows(true);
  for (const struct span *span; (span = arena_next_in_use_stw(&heap_arena, &at)) != NULL;) visit_span(span, argument);
  hide_windows(false);
}

void midden_each_object(midden_visit_fn *visit, void *argument) {
  struct visit visit_argument = {.function = visit, .argument = argument};
  collector_call_stopped(start_self(), visit_all, &visit_argument);
}

static void verify(void *argument) {
  (void)argument;
  verify_heap_stw();
}

void midden_verify(void) { collector_call_stopped(start_self(), verify, NULL); }

void midden_set_fatal_hook(void (*hook)(const char *message)) { check_fatal_hook = hook; }
