#include "gc/weak.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/atomic.h"
#include "base/check.h"
#include "gc/mark.h"
#include "gc/table.h"
#include "meta/fixalloc.h"
#include "span/mark_bits.h"
#include "span/object.h"

struct weak_link {
  uintptr_t link;
  uintptr_t target;
  enum midden_weak_when when;
  struct weak_link *next_of_target, *previous_of_target;
};

struct lock specials_lock = LOCK_INIT(LOCK_RANK_SPECIALS);

static struct fixalloc records;

/* One pair for each `when`. */
static struct {
  struct table by_link;   /* struct weak_link */
  struct table by_target; /* the first struct weak_link of the target */
} sets[2];

void weak_init(void) { fixalloc_init(&records, sizeof(struct weak_link), true, PERSIST_SPECIAL); }

/* ---- the chain of a target ---- */

static int chain_add(struct weak_link *record) {
  struct table *table = &sets[record->when].by_target;
  struct weak_link *first = table_get(table, record->target);
  record->previous_of_target = NULL;
  record->next_of_target = first;
  if (first == NULL) return table_add(table, record->target, record);
  first->previous_of_target = record;
  table_replace(table, record->target, record);
  return 0;
}

static void chain_remove(struct weak_link *record) {
  struct table *table = &sets[record->when].by_target;
  struct weak_link *next = record->next_of_target, *previous = record->previous_of_target;
  if (next != NULL) next->previous_of_target = previous;
  if (previous != NULL) {
    previous->next_of_target = next;
  } else if (next != NULL) {
    table_replace(table, record->target, next);
  } else {
    table_remove(table, record->target);
  }
}

static void forget(struct weak_link *record) {
  chain_remove(record);
  fixalloc_free(&records, record);
}

static void note_special(uintptr_t object) {
  if (arena_contains(&heap_arena, object)) atomic_store_relaxed(&object_span(object)->has_specials, true);
}

/* ---- the program's calls ---- */

static int retarget(struct weak_link *record, uintptr_t target) {
  chain_remove(record);
  record->target = target;
  int error = chain_add(record);
  if (error == 0) return -EEXIST;
  table_remove(&sets[record->when].by_link, record->link);
  fixalloc_free(&records, record);
  return error;
}

static int add(uintptr_t link, uintptr_t target, enum midden_weak_when when) {
  struct weak_link *record = fixalloc_alloc(&records);
  if (record == NULL) return -ENOMEM;
  *record = (struct weak_link){.link = link, .target = target, .when = when};
  int error = chain_add(record);
  if (error == 0) {
    error = table_add(&sets[when].by_link, link, record);
    if (error != 0) chain_remove(record);
  }
  if (error != 0) fixalloc_free(&records, record);
  return error;
}

int weak_link(uintptr_t link, uintptr_t target, enum midden_weak_when when) {
  lock_acquire(&specials_lock);
  struct weak_link *record = table_get(&sets[when].by_link, link);
  int error = record != NULL ? retarget(record, target) : add(link, target, when);
  note_special(target);
  note_special(link); /* a span of pages without objects has no use for it, nor does it harm */
  lock_release(&specials_lock);
  return error;
}

int weak_unlink(uintptr_t link, enum midden_weak_when when) {
  lock_acquire(&specials_lock);
  struct weak_link *record = table_remove(&sets[when].by_link, link);
  if (record != NULL) forget(record);
  lock_release(&specials_lock);
  return record != NULL ? 0 : -ENOENT;
}

int weak_move(uintptr_t from, uintptr_t to, enum midden_weak_when when) {
  lock_acquire(&specials_lock);
  struct table *table = &sets[when].by_link;
  struct weak_link *record = table_get(table, from);
  int error = 0;
  if (record == NULL) {
    error = -ENOENT;
  } else if (from != to && table_get(table, to) != NULL) {
    error = -EEXIST;
  } else if (from != to) {
    table_remove(table, from);
    record->link = to;
    error = table_add(table, to, record); /* there is room: one was just removed */
    note_special(to);
  }
  lock_release(&specials_lock);
  return error;
}

static void clear_link(const struct weak_link *record) { atomic_store_release((void **)record->link, (void *)NULL); }

void weak_object_freed(uintptr_t object, uintptr_t end) {
  lock_acquire(&specials_lock);
  for (int when = 0; when < 2; when++) {
    struct weak_link *record;
    while ((record = table_get(&sets[when].by_target, object)) != NULL) {
      clear_link(record);
      table_remove(&sets[when].by_link, record->link);
      forget(record);
    }
    for (uintptr_t link = object; sets[when].by_link.count != 0 && link < end; link += sizeof(void *)) {
      record = table_remove(&sets[when].by_link, link);
      if (record != NULL) forget(record);
    }
  }
  lock_release(&specials_lock);
}

/* ---- the collector's ---- */

static int keep_if_marked(uintptr_t link, void *value, void *argument) {
  (void)link;
  (void)argument;
  struct weak_link *record = value;
  if (mark_bit_get(&heap_arena, mark_side, record->target)) return true;
  /* The word may lie in an object that is dead too; its memory is still there. */
  clear_link(record);
  forget(record);
  return false;
}

void weak_clear_dead_stw(enum midden_weak_when when) { table_filter(&sets[when].by_link, keep_if_marked, NULL); }

static int keep_if_link_lives(uintptr_t link, void *value, void *argument) {
  (void)argument;
  struct object object;
  if (!arena_contains(&heap_arena, link)) return true;
  bool lives = object_find((void *)link, &object) && mark_bit_get(&heap_arena, mark_side, object.start);
  if (!lives) forget(value);
  return lives;
}

void weak_forget_dead_links_stw(void) {
  for (int when = 0; when < 2; when++) table_filter(&sets[when].by_link, keep_if_link_lives, NULL);
}
