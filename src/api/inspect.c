/* Questions about addresses, and walks over the heap. */
#include <errno.h>

#include "api/start.h"
#include "base/check.h"
#include "gc/collector.h"
#include "mutator/world.h"
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

/* Runs `function` with the world stopped. */
static void with_world_stopped(void (*function)(void *argument), void *argument) {
  struct mutator *self = start_self();
  bool mine = collector_is_mine(self);
  if (!mine) collector_acquire(self);
  bool stopped = world_is_stopped();
  if (!stopped) collector_stop_world(self);
  function(argument);
  if (!stopped) collector_resume_world();
  if (!mine) collector_release();
}

struct visit {
  midden_visit_fn *function;
  void *argument;
};

static void visit_span(const struct span *span, const struct visit *visit) {
  uintptr_t end = span_end(span);
  uintptr_t object = mark_bits_next(&heap_arena, alloc_side(), span->start, end);
  for (; object < end; object = mark_bits_next(&heap_arena, alloc_side(), object + GRANULE_BYTES, end))
    visit->function((void *)object, guard_active ? guard_size(span, object) : span_slot_bytes(span),
                    (unsigned)kind_for_program(span->kind), visit->argument);
}

/* Slots that a cache holds for objects to come are not objects: their bits are taken away for the visit. */
static void hide_windows(bool hide) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct cache *cache = &mutator_from(link)->cache;
    for (unsigned kind = 0; kind < kind_count; kind++) {
      for (unsigned i = 1; i < SIZE_CLASS_COUNT; i++) {
        const struct cache_bin *bin = cache_bin_of(cache, kind, i);
        if (bin == NULL || bin->next == bin->limit) continue;
        uintptr_t next = (uintptr_t)bin->next, limit = (uintptr_t)bin->limit;
        if (hide) {
          mark_bits_clear_slots(&heap_arena, alloc_side(), next, limit, size_class_bytes[i]);
        } else {
          mark_bits_set_slots(&heap_arena, alloc_side(), next, limit, size_class_bytes[i]);
        }
      }
    }
  }
}

static void visit_all(void *argument) {
  hide_windows(true);
  uintptr_t page = heap_arena.start;
  while (page < heap_arena.used) {
    const struct span *span = arena_span_of(&heap_arena, page);
    if (span != NULL && span_state(span) == SPAN_IN_USE) visit_span(span, argument);
    page = span != NULL ? span_end(span) : page + PAGE_BYTES;
  }
  hide_windows(false);
}

void midden_each_object(midden_visit_fn *visit, void *argument) {
  struct visit visit_argument = {.function = visit, .argument = argument};
  with_world_stopped(visit_all, &visit_argument);
}

static void verify(void *argument) {
  (void)argument;
  verify_heap_stw();
}

void midden_verify(void) { with_world_stopped(verify, NULL); }

void midden_set_fatal_hook(void (*hook)(const char *message)) { check_fatal_hook = hook; }
