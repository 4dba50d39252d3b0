/* The roots: which ranges of words they are, and whose; and the root set of one cycle, these ranges cut into jobs that
 * markers take in turn. */
#ifndef MIDDEN_GC_ROOTSET_H
#define MIDDEN_GC_ROOTSET_H

#include "gc/mark.h"
#include "mutator/mutator.h"

enum root_origin {
  ROOT_STATIC,  /* data of a loaded object */
  ROOT_ADDED,   /* a range that the program added */
  ROOT_STACK,   /* a thread's stack and registers, or a registered stack */
  ROOT_STORAGE, /* thread-local storage */
  ROOT_THREAD,  /* what the library keeps of a thread: the fiber that it runs, the slot that its tiny objects share */
  ROOT_KIND     /* what the trace function of a kind was given */
};

struct root {
  struct os_range range;
  enum root_origin origin;
  uint32_t number; /* the kernel's name of the thread, 0 for a registered stack; the kind */
};

/* Words on a stack count for objects that end where they point, and may be stale. */
static inline bool root_is_stack(const struct root *root) { return root->origin == ROOT_STACK; }

typedef void rootset_visit_fn(void *argument, const struct root *root);

/* The world stopped: visits all ranges of roots. */
void rootset_visit_stw(rootset_visit_fn *visit, void *argument);

/* The world stopped: gathers the ranges; with `written_only`, of static data what was written since it was protected
 * (roots_protect).  False where there was no memory to hold them all. */
bool rootset_collect_stw(bool written_only);

/* After the root callback: marks the stacks that were not gathered, since it says where they end.  So it does of any whose stack
 * pointer lies in none that is known, or it is as wrong as before. */
void rootset_mark_told_stw(struct midden_tracer *tracer);

/* How much was gathered. */
size_t rootset_bytes(void);

/* The same while the world runs, the collector lock held: what is not a thread's own is marked at once.  All threads have
 * been scanned, so that root objects that they allocate from now on are black, or are asked for later by
 * rootset_mark_new_stw.  False where there was no memory to learn all of them. */
bool rootset_mark_running(struct mutator *self, struct midden_tracer *tracer);

/* Root objects that were allocated since they were forgotten.  They are forgotten before threads are scanned. */
void rootset_forget_new(void);
void rootset_mark_new_stw(struct midden_tracer *tracer);

/* What a thread alone may refer to: its stack and registers, its fiber, the slot that its tiny objects share, and, if
 * `storage`, its thread-local storage.  It is SAFE, held, or the caller. */
void rootset_mark_thread(const struct mutator *mutator, bool storage, struct midden_tracer *tracer);

/* Takes jobs until none is left; any number of markers at once. */
void rootset_mark_share(struct midden_tracer *tracer);

/* The world stopped, no span in a cache: marks the objects of root kinds. */
void rootset_mark_root_objects_stw(struct midden_tracer *tracer);

#endif
