#include "gc/generation.h"

enum {
  ROOM_DIVISOR = 2, /* survivors of minor cycles may take this part of the room */
  BARRED_CYCLES = 8,
  TELLING_DIVISOR = 4, /* a full cycle that freed less of the heap tells little */
  MOST = 16,
  MINORS_MOST = 64 /* in succession: full ones add a sixty-fourth of what they alone would cost, at most */
};

/* Minor cycles must do so much better: what they leave behind is paid for by the next full one. */
#define WORTH 0.75

/* What a cycle weighs beside the next one. */
#define MEMORY 0.75

bool generation_wants_minor(const struct generation *generation) {
  if (generation->choice == MIDDEN_GENERATIONS_OFF || !generation->has_old) return false;
  size_t survivors =
      generation->old_bytes > generation->full_bytes ? generation->old_bytes - generation->full_bytes : 0;
  if (survivors > generation->room_bytes / ROOM_DIVISOR) return false;
  if (generation->minors == MINORS_MOST) return false;
  if (generation->choice == MIDDEN_GENERATIONS_ALWAYS) return true;
  if (generation->most != 0 && generation->minors_ns >= generation->most * generation->full_ns) return false;
  return generation->barred == 0 && generation->full_cost.cpu_ns > 0;
}

static unsigned most_after(const struct generation *generation, size_t before_bytes) {
  if (generation->freed_bytes >= before_bytes / TELLING_DIVISOR) return 0;
  return generation->most == 0 ? 1 : generation->most < MOST ? 2 * generation->most : MOST;
}

void generation_ended(struct generation *generation, bool minor, size_t before_bytes, size_t after_bytes,
                      size_t goal_bytes) {
  generation->has_old = true;
  generation->minor = minor;
  generation->minors = minor ? generation->minors + 1 : 0;
  generation->old_bytes = after_bytes;
  generation->freed_bytes = before_bytes > after_bytes ? before_bytes - after_bytes : 0;
  if (minor) return;
  generation->most = most_after(generation, before_bytes);
  generation->full_bytes = after_bytes;
  generation_revise(generation, goal_bytes);
}

void generation_revise(struct generation *generation, size_t goal_bytes) {
  generation->room_bytes = goal_bytes > generation->full_bytes ? goal_bytes - generation->full_bytes : 0;
}

static void count(struct generation_cost *cost, double cpu_ns, double freed_bytes) {
  cost->cpu_ns = cost->cpu_ns * MEMORY + cpu_ns;
  cost->freed_bytes = cost->freed_bytes * MEMORY + freed_bytes;
}

/* Cycles that freed nothing are the most expensive ones. */
static bool is_worth_it(const struct generation_cost *minor, const struct generation_cost *full) {
  return minor->cpu_ns * (full->freed_bytes + 1) <= WORTH * full->cpu_ns * (minor->freed_bytes + 1);
}

void generation_charge(struct generation *generation, uint64_t cpu_ns) {
  if (!generation->has_old) return;
  count(generation->minor ? &generation->minor_cost : &generation->full_cost, (double)cpu_ns,
        (double)generation->freed_bytes);
  if (!generation->minor) {
    generation->full_ns = (double)cpu_ns;
    generation->minors_ns = 0;
    if (generation->barred != 0) generation->barred--;
    return;
  }
  generation->minors_ns += (double)cpu_ns;
  if (!is_worth_it(&generation->minor_cost, &generation->full_cost)) {
    generation->barred = BARRED_CYCLES;
    generation->minor_cost = (struct generation_cost){0};
  }
}

void generation_forget(struct generation *generation) { generation->has_old = false; }
