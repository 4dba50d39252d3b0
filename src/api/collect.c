/* Collections and their tuning as the program sees them. */
#include <errno.h>

#include "alloc/account.h"
#include "api/start.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "gc/collector.h"
#include "gc/sweep.h"
#include "mutator/stack.h"
#include "observe/trace.h"
#include "page/pageheap.h"

#define RELEASE_STEP_BYTES ((size_t)16 << 20)

void midden_collect(void) {
  start_self();
  collector_collect(COLLECT_FORCED, NULL, NULL);
}

bool midden_collect_unless(bool (*stop)(void *argument), void *argument) {
  start_self();
  return collector_collect(COLLECT_FORCED, stop, argument);
}

void midden_disable(void) {
  struct mutator *self = start_self();
  collector_disable();
  collector_await(self);
}

void midden_enable(void) {
  start_ensure();
  collector_enable();
}

bool midden_is_disabled(void) { return collector_is_disabled(); }

struct change {
  size_t before, after;
};

static void change_percent(struct pacer *pacer, void *argument) {
  struct change *change = argument;
  change->before = (size_t)(intptr_t)pacer->percent;
  pacer->percent = (int)(intptr_t)change->after;
}

int midden_set_percent(int percent) {
  start_ensure();
  struct change change = {.after = (size_t)(intptr_t)(percent < 0 ? -1 : percent)};
  collector_configure(change_percent, &change);
  return (int)(intptr_t)change.before;
}

/* 0 and SIZE_MAX both say: no limit; outside it is 0. */
static size_t limit_from_user(size_t bytes) { return bytes == 0 ? SIZE_MAX : bytes; }
static size_t limit_to_user(size_t bytes) { return bytes == SIZE_MAX ? 0 : bytes; }

static void change_limit(struct pacer *pacer, void *argument) {
  struct change *change = argument;
  change->before = pacer->memory_limit_bytes;
  pacer->memory_limit_bytes = change->after;
}

/* In sections of their own, since a collection waits for each: no more than so much in all, which others may free meanwhile. */
static size_t release_idle(struct mutator *self, size_t most_bytes) {
  size_t released_bytes = 0, last_bytes = RELEASE_STEP_BYTES;
  while (released_bytes < most_bytes && last_bytes >= RELEASE_STEP_BYTES) {
    mutator_leave(self);
    mutator_enter(self);
    last_bytes = pageheap_release(&heap_pages, min_size(most_bytes - released_bytes, RELEASE_STEP_BYTES), 0);
    released_bytes += last_bytes;
  }
  return released_bytes;
}

/* Leaves the critical section in which memory was given back. */
static void end_release(struct mutator *self, uint64_t start_ns, size_t released_bytes) {
  struct pageheap_stats pages;
  account_work(ACCOUNT_RELEASING, os_now_ns() - start_ns);
  pageheap_read_stats(&heap_pages, &pages);
  mutator_leave(self);
  trace_release(start_ns, released_bytes, &pages);
}

/* Idle memory above a new limit goes at once. */
static void release_to_limit(size_t limit_bytes) {
  struct mutator *self = mutator_self();
  mutator_enter(self);
  size_t held_bytes = pageheap_held_bytes(&heap_pages);
  if (held_bytes <= limit_bytes) {
    mutator_leave(self);
    return;
  }
  uint64_t start_ns = os_now_ns();
  end_release(self, start_ns, release_idle(self, held_bytes - limit_bytes));
}

size_t midden_set_memory_limit(size_t bytes) {
  start_ensure();
  struct change change = {.after = limit_from_user(bytes)};
  collector_configure(change_limit, &change);
  release_to_limit(change.after);
  return limit_to_user(change.before);
}

static void change_max_heap(struct pacer *pacer, void *argument) {
  struct change *change = argument;
  change->before = pacer->max_heap_bytes;
  pacer->max_heap_bytes = change->after;
  atomic_store_relaxed(&heap_arena.limit_bytes, change->after);
}

size_t midden_set_max_heap(size_t bytes) {
  start_ensure();
  struct change change = {.after = limit_from_user(bytes)};
  collector_configure(change_max_heap, &change);
  return limit_to_user(change.before);
}

unsigned midden_set_markers(unsigned markers) {
  start_ensure();
  return collector_set_markers(markers);
}

static void raise_minimum(struct pacer *pacer, void *argument) {
  pacer->min_heap_bytes = max_size(pacer->min_heap_bytes, *(size_t *)argument);
}

int midden_reserve(size_t bytes) {
  struct mutator *self = start_self();
  if (bytes > PTRDIFF_MAX) return -ENOMEM;
  mutator_enter(self);
  int error = pageheap_reserve(&heap_pages, round_up(bytes, PAGE_BYTES) >> PAGE_SHIFT);
  mutator_leave(self);
  if (error != 0) return error;
  size_t heap_bytes = atomic_load_relaxed(&account_live_bytes) + bytes;
  collector_configure(raise_minimum, &heap_bytes);
  return 0;
}

size_t midden_release_memory(void) {
  struct mutator *self = start_self();
  sweep_finish(self);
  mutator_enter(self);
  uint64_t start_ns = os_now_ns();
  size_t released_bytes = stacks_trim_all();
  released_bytes += release_idle(self, pageheap_held_bytes(&heap_pages));
  end_release(self, start_ns, released_bytes);
  return released_bytes;
}

void midden_set_event_callback(midden_event_fn *callback, void *argument) {
  struct mutator *self = start_self();
  collector_lock_hooks(self);
  collector_hooks.event_argument = argument;
  atomic_store_release(&collector_hooks.event, callback);
  collector_unlock_hooks(self);
}
