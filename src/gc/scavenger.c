#include "gc/scavenger.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "gc/background.h"
#include "mutator/world.h"

enum { SPARE_DIVISOR = 10, GROWTH_DIVISOR = 8, OLD_CHUNKS_PER_STEP = 64 };
enum { LEAST_HEAP_BYTES = 8 << 20 }; /* a small heap is not worth a thread */

NOT_A_ROOT struct scavenger heap_scavenger;

void scavenger_init(struct scavenger *scavenger, struct pageheap *heap, uint64_t (*cpu_ns)(void), uint64_t after_ns) {
  *scavenger = (struct scavenger){.heap = heap,
                                  .cpu_ns = cpu_ns,
                                  .after_ns = after_ns,
                                  .need_bytes = SIZE_MAX,
                                  .old_due_ns = UINT64_MAX,
                                  .old_chunk = SIZE_MAX,
                                  .is_resting = true,
                                  .goal_bytes = SIZE_MAX};
}

void scavenger_cycle_ended(struct scavenger *scavenger, size_t need_bytes, bool is_idle) {
  atomic_raise_relaxed(&scavenger->peak_bytes, need_bytes);
  atomic_store_relaxed(&scavenger->is_idle, is_idle);
  atomic_store_release(&scavenger->need_bytes, need_bytes);
}

/* ---- the goal ---- */

static size_t goal_for(const struct scavenger *scavenger, const struct pageheap_stats *pages, size_t growth_bytes,
                       size_t need_bytes) {
  if (need_bytes == SIZE_MAX) return SIZE_MAX;
  size_t used_bytes = pages->in_use_bytes + pages->stack_bytes;
  size_t kept_bytes =
      max_size(add_saturating(need_bytes, pages->stack_bytes), used_bytes + growth_bytes / GROWTH_DIVISOR);
  size_t goal_bytes = add_saturating(kept_bytes, kept_bytes / SPARE_DIVISOR);
  size_t limit_bytes = atomic_load_relaxed(&scavenger->heap->limit_bytes);
  return min_size(goal_bytes, limit_bytes);
}

size_t scavenger_goal(const struct scavenger *scavenger, const struct pageheap_stats *pages, size_t growth_bytes) {
  size_t need_bytes = atomic_load_acquire(&scavenger->need_bytes);
  if (need_bytes != SIZE_MAX) need_bytes = max_size(need_bytes, scavenger->held_bytes);
  return goal_for(scavenger, pages, growth_bytes, need_bytes);
}

/* What an earlier cycle needed counts for a while; where the program is idle it breathes no more. */
static void hold_need(struct scavenger *scavenger, uint64_t now_ns) {
  size_t need_bytes = atomic_load_acquire(&scavenger->need_bytes);
  size_t peak_bytes = atomic_load_relaxed(&scavenger->peak_bytes);
  while (!atomic_cas_relaxed(&scavenger->peak_bytes, &peak_bytes, 0)) {
  }
  if (peak_bytes != 0 && peak_bytes >= scavenger->held_bytes) {
    scavenger->held_bytes = peak_bytes;
    scavenger->held_until_ns = add_saturating(now_ns, SCAVENGER_HOLD_NS);
  }
  if (now_ns >= scavenger->held_until_ns || atomic_load_relaxed(&scavenger->is_idle)) {
    scavenger->held_bytes = need_bytes != SIZE_MAX ? need_bytes : 0;
    scavenger->held_until_ns = UINT64_MAX;
  }
}

/* ---- episodes ---- */

static size_t resident_bytes(const struct pageheap_stats *pages) {
  return pages->in_use_bytes + pages->stack_bytes + pageheap_stats_idle_resident(pages);
}

static void begin_episode(struct scavenger *scavenger, const struct pageheap_stats *pages, uint64_t now_ns) {
  if (scavenger->in_episode) return;
  scavenger->in_episode = true;
  scavenger->episode = (struct scavenger_report){.start_ns = now_ns, .resident_before_bytes = resident_bytes(pages)};
}

static void end_episode(struct scavenger *scavenger, size_t goal_bytes, uint64_t now_ns) {
  if (!scavenger->in_episode) return;
  scavenger->in_episode = false;
  struct scavenger_report *episode = &scavenger->episode;
  struct pageheap_stats pages;
  pageheap_read_stats(scavenger->heap, &pages);
  episode->number = ++scavenger->episodes;
  episode->elapsed_ns = now_ns - episode->start_ns;
  episode->resident_after_bytes = resident_bytes(&pages);
  episode->goal_bytes = goal_bytes;
  if (scavenger->report != NULL) scavenger->report(episode);
}

/* A slice was tried: counts it, and rests. */
static void note_slice(struct scavenger *scavenger, const struct pageheap_scavenged *slice, uint64_t spent_ns,
                       uint64_t now_ns) {
  uint64_t rest_ns = slice->error != 0 ? SCAVENGER_REFUSED_NS : SCAVENGER_REST * spent_ns;
  scavenger->rest_until_ns = add_saturating(now_ns, rest_ns);
  scavenger->episode.released_bytes += slice->released_bytes;
  scavenger->episode.huge_pages += slice->whole_huge_page;
  scavenger->episode.cpu_ns += spent_ns;
  scavenger->episode.refused |= slice->error != 0;
  scavenger->released_bytes += slice->released_bytes;
  account_work(ACCOUNT_RELEASING, spent_ns);
}

/* ---- by age ---- */

static bool old_pass_is_due(struct scavenger *scavenger, const struct pageheap_stats *pages, uint64_t now_ns) {
  if (scavenger->after_ns == UINT64_MAX) return false;
  if (scavenger->old_due_ns == UINT64_MAX && pages->freed_ns >= scavenger->old_pass_ns && pages->freed_ns != 0) {
    scavenger->old_due_ns = add_saturating(scavenger->old_pass_ns, scavenger->after_ns);
  }
  return now_ns >= scavenger->old_due_ns;
}

static void end_old_pass(struct scavenger *scavenger) {
  scavenger->old_chunk = SIZE_MAX;
  scavenger->old_due_ns = add_saturating(scavenger->old_next_ns, scavenger->after_ns);
}

/* Goes through the chunks until one had old pages to release; true if so. */
static bool release_old(struct scavenger *scavenger, const struct pageheap_stats *pages, uint64_t now_ns) {
  if (scavenger->old_chunk == SIZE_MAX) {
    if (!old_pass_is_due(scavenger, pages, now_ns)) return false;
    scavenger->old_chunk = 0;
    scavenger->old_pass_ns = now_ns;
    scavenger->old_next_ns = UINT64_MAX;
  }
  size_t count = pageheap_chunk_count(scavenger->heap);
  uint64_t start_ns = scavenger->cpu_ns();
  for (unsigned i = 0; i < OLD_CHUNKS_PER_STEP && scavenger->old_chunk < count; i++) {
    struct pageheap_scavenged slice =
        pageheap_scavenge_old(scavenger->heap, scavenger->old_chunk++, now_ns - scavenger->after_ns);
    if (slice.next_ns < scavenger->old_next_ns) scavenger->old_next_ns = slice.next_ns;
    if (slice.released_bytes == 0 && slice.error == 0) continue;
    begin_episode(scavenger, pages, now_ns);
    note_slice(scavenger, &slice, scavenger->cpu_ns() - start_ns, now_ns);
    scavenger->episode.old_bytes += slice.released_bytes;
    return true;
  }
  if (scavenger->old_chunk >= count) end_old_pass(scavenger);
  return scavenger->old_chunk != SIZE_MAX;
}

/* ---- by the goal ---- */

/* Releases one chunk beyond the goal; true if it did.  Otherwise *wait_ns is when that may change. */
static bool release_beyond(struct scavenger *scavenger, const struct pageheap_stats *pages, size_t goal_bytes,
                           uint64_t now_ns, uint64_t *wait_ns) {
  size_t resident = resident_bytes(pages);
  if (resident <= goal_bytes || now_ns < SCAVENGER_GRACE_NS) return false;
  uint64_t start_ns = scavenger->cpu_ns();
  struct pageheap_scavenged slice =
      pageheap_scavenge(scavenger->heap, resident - goal_bytes, now_ns - SCAVENGER_GRACE_NS);
  if (slice.released_bytes == 0 && slice.error == 0) {
    if (slice.next_ns != UINT64_MAX) *wait_ns = slice.next_ns + SCAVENGER_GRACE_NS - now_ns;
    return false;
  }
  begin_episode(scavenger, pages, now_ns);
  note_slice(scavenger, &slice, scavenger->cpu_ns() - start_ns, now_ns);
  return true;
}

/* When the need of an earlier cycle that holds memory back will count no more. */
static uint64_t wait_for_held(const struct scavenger *scavenger, const struct pageheap_stats *pages,
                              size_t growth_bytes, uint64_t now_ns) {
  if (scavenger->held_until_ns == UINT64_MAX) return UINT64_MAX;
  size_t goal_bytes = goal_for(scavenger, pages, growth_bytes, atomic_load_acquire(&scavenger->need_bytes));
  return resident_bytes(pages) > goal_bytes ? scavenger->held_until_ns - now_ns : UINT64_MAX;
}

static uint64_t rest_left(const struct scavenger *scavenger, uint64_t now_ns) {
  return scavenger->rest_until_ns > now_ns ? scavenger->rest_until_ns - now_ns : 0;
}

uint64_t scavenger_step(struct scavenger *scavenger, size_t growth_bytes, uint64_t now_ns) {
  uint64_t rest_ns = rest_left(scavenger, now_ns);
  if (rest_ns != 0) return rest_ns;
  struct pageheap_stats pages;
  pageheap_read_stats(scavenger->heap, &pages);
  hold_need(scavenger, now_ns);
  size_t goal_bytes = scavenger_goal(scavenger, &pages, growth_bytes);
  scavenger->goal_bytes = goal_bytes;
  uint64_t wait_ns = UINT64_MAX;
  if (release_beyond(scavenger, &pages, goal_bytes, now_ns, &wait_ns)) return rest_left(scavenger, now_ns);
  if (release_old(scavenger, &pages, now_ns)) return rest_left(scavenger, now_ns);
  end_episode(scavenger, goal_bytes, now_ns);
  uint64_t held_ns = wait_for_held(scavenger, &pages, growth_bytes, now_ns);
  if (held_ns < wait_ns) wait_ns = held_ns;
  if (scavenger->old_due_ns != UINT64_MAX && scavenger->old_due_ns - now_ns < wait_ns) {
    wait_ns = scavenger->old_due_ns - now_ns;
  }
  return wait_ns;
}

bool scavenger_wants_background(const struct scavenger *scavenger) {
  if (atomic_load_relaxed(&scavenger->is_attentive)) return false;
  struct pageheap_stats pages;
  pageheap_read_stats(scavenger->heap, &pages);
  size_t goal_bytes = goal_for(scavenger, &pages, 0, atomic_load_acquire(&scavenger->need_bytes));
  return resident_bytes(&pages) > add_saturating(goal_bytes, CHUNK_BYTES / 2);
}

void scavenger_notice_free(void) {
  if (LIKELY(!atomic_load_relaxed(&heap_scavenger.is_resting))) return;
  if (heap_scavenger.after_ns == UINT64_MAX || world_is_stopped()) return;
  if (atomic_load_relaxed(&heap_arena.used) - heap_arena.start < LEAST_HEAP_BYTES) return;
  if (atomic_exchange_acq_rel(&heap_scavenger.is_resting, false)) background_wake();
}

void scavenger_forget(struct scavenger *scavenger) {
  atomic_store_relaxed(&scavenger->is_attentive, false);
  atomic_store_relaxed(&scavenger->is_resting, true);
}

uint64_t scavenger_task(struct mutator *self, uint64_t now_ns) {
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  size_t trigger_bytes = atomic_load_relaxed(&account_trigger_bytes);
  atomic_store_seq_cst(&heap_scavenger.is_resting, true); /* before it looks: what is freed from here on wakes it */
  mutator_enter(self);
  uint64_t wait_ns =
      scavenger_step(&heap_scavenger, trigger_bytes > live_bytes ? trigger_bytes - live_bytes : 0, now_ns);
  mutator_leave(self);
  atomic_store_relaxed(&heap_scavenger.is_attentive, wait_ns < SCAVENGER_SOON_NS);
  if (wait_ns != UINT64_MAX) atomic_store_relaxed(&heap_scavenger.is_resting, false);
  return wait_ns;
}
