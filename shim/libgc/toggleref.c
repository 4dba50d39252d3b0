/* Toggle references: objects of which the program says at the start of each collection whether they are held.
 *
 * Each is a node in malloc memory, which the collector does not read: its `object` is a weak link that midden clears when
 * the object dies, and the root callback reports it where it is strong.  The list changes in midden_locked_call, so never
 * beside a collection; nodes that died or were dropped are taken out when the next is added. */
#include <stdlib.h>

#include "shim.h"

struct toggleref {
  struct toggleref *next;
  void *object; /* NULL: dead; a weak link */
  bool strong;
  bool dropped;
};

static struct toggleref *toggleref_list;
static GC_toggleref_func toggleref_function; /* atomic */

void GC_set_toggleref_func(GC_toggleref_func function) {
  __atomic_store_n(&toggleref_function, function, __ATOMIC_RELEASE);
}

GC_toggleref_func GC_get_toggleref_func(void) { return __atomic_load_n(&toggleref_function, __ATOMIC_ACQUIRE); }

void toggleref_update(void) {
  GC_toggleref_func function = GC_get_toggleref_func();
  if (!function) return;
  for (struct toggleref *ref = toggleref_list; ref; ref = ref->next) {
    if (!ref->object || ref->dropped) continue;
    GC_ToggleRefStatus status = function(ref->object);
    ref->dropped = status == GC_TOGGLE_REF_DROP;
    ref->strong = status == GC_TOGGLE_REF_STRONG;
  }
}

void toggleref_trace(struct midden_tracer *tracer) {
  for (struct toggleref *ref = toggleref_list; ref; ref = ref->next)
    if (ref->strong) midden_trace(tracer, ref->object);
}

/* Frees nodes that serve nothing any more. */
static void toggleref_prune_locked(void) {
  for (struct toggleref **at = &toggleref_list; *at;) {
    struct toggleref *ref = *at;
    if (ref->object && !ref->dropped) {
      at = &ref->next;
      continue;
    }
    midden_weak_unlink(&ref->object, MIDDEN_WEAK_AFTER_FINALIZERS);
    *at = ref->next;
    free(ref);
  }
}

static void *toggleref_add_locked(void *argument) {
  struct toggleref *ref = argument;
  toggleref_prune_locked();
  if (midden_weak_link(&ref->object, ref->object, MIDDEN_WEAK_AFTER_FINALIZERS) < 0) return NULL;
  ref->next = toggleref_list;
  toggleref_list = ref;
  return ref;
}

int GC_toggleref_add(void *object, int is_strong) {
  if (!GC_get_toggleref_func()) return GC_SUCCESS;
  struct toggleref *ref = malloc(sizeof(*ref));
  if (!ref) return GC_NO_MEMORY;
  *ref = (struct toggleref){.object = object, .strong = is_strong != 0};
  if (midden_locked_call(toggleref_add_locked, ref)) return GC_SUCCESS;
  free(ref);
  return GC_NO_MEMORY;
}
