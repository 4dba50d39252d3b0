/* Roots: ranges that the program adds, and which static data count.
 *
 * Ranges are rounded inwards to whole words here, so that midden is given none that ends before it starts; exclusions are
 * rounded outwards: no part of a word that is excluded counts.
 *
 * A removal takes out the ranges that lie wholly inside it, no part of another.  midden only knows which words are roots,
 * so the ranges are kept here, in malloc memory, sorted by their starts, of which no two are the same.  The list changes
 * in midden_locked_call, together with midden's roots.
 *
 * midden's exclusions are from static data alone, libgc's from added ranges too: they are kept in another list, and taken out
 * of what is added before and after. */
#define _GNU_SOURCE
#include <link.h>
#include <stdlib.h>

#include "shim.h"

static bool roots_round(void **start, void **end) {
  GC_word align = sizeof(void *) - 1;
  *start = (void *)(((GC_word)*start + align) & ~align);
  *end = (void *)((GC_word)*end & ~align);
  return (GC_word)*start < (GC_word)*end;
}

/* ---- ranges ---- */

struct roots_range {
  struct roots_range *next;
  char *start;
  char *end;
};

static struct roots_range *roots_list;
static struct roots_range *roots_excluded; /* in no order; only ever grows */

static struct roots_range *roots_new_range(void *start, void *end) {
  struct roots_range *range = malloc(sizeof(*range));
  if (!range) report_fatal("libgc: no memory for another root range");
  *range = (struct roots_range){.start = start, .end = end};
  return range;
}

/* NULL once the list has the range.  A range that starts where another does is merged with it, as in libgc. */
static void *roots_link_locked(void *argument) {
  struct roots_range *range = argument, **at = &roots_list;
  while (*at && (*at)->start < range->start) at = &(*at)->next;
  struct roots_range *found = *at;
  if (found && found->start == range->start) {
    if (found->end < range->end) found->end = range->end;
    return range;
  }
  range->next = found;
  *at = range;
  return NULL;
}

static void roots_drop_excluded_locked(const struct roots_range *added) {
  for (const struct roots_range *excluded = roots_excluded; excluded; excluded = excluded->next) {
    char *start = added->start > excluded->start ? added->start : excluded->start;
    char *end = added->end < excluded->end ? added->end : excluded->end;
    if (start < end) midden_root_remove(start, end);
  }
}

static void *roots_add_locked(void *argument) {
  struct roots_range *range = argument;
  if (midden_root_add(range->start, range->end) < 0) report_fatal("libgc: no memory for another root range");
  roots_drop_excluded_locked(range);
  return roots_link_locked(range);
}

void GC_add_roots(void *start, void *end) {
  if (roots_round(&start, &end)) free(midden_locked_call(roots_add_locked, roots_new_range(start, end)));
}

static void roots_unlink_inside_locked(const struct roots_range *removed) {
  for (struct roots_range **at = &roots_list; *at;) {
    struct roots_range *range = *at;
    if (range->start < removed->start || range->end > removed->end) {
      at = &range->next;
      continue;
    }
    *at = range->next;
    free(range);
  }
}

/* Takes out the words that no range covers any more; midden keeps them where it has no memory to split one of its own. */
static void roots_drop_uncovered_locked(const struct roots_range *removed) {
  char *at = removed->start;
  for (const struct roots_range *range = roots_list; range && range->start < removed->end; range = range->next) {
    if (at < range->start) midden_root_remove(at, range->start);
    if (at < range->end) at = range->end;
  }
  if (at < removed->end) midden_root_remove(at, removed->end);
}

static void *roots_remove_locked(void *argument) {
  roots_unlink_inside_locked(argument);
  roots_drop_uncovered_locked(argument);
  return NULL;
}

void GC_remove_roots(void *start, void *end) {
  if (!roots_round(&start, &end)) return;
  midden_locked_call(roots_remove_locked, &(struct roots_range){.start = start, .end = end});
}

static void *roots_clear_locked(void *unused) {
  while (roots_list) {
    struct roots_range *range = roots_list;
    roots_list = range->next;
    free(range);
  }
  midden_root_clear();
  return unused;
}

/* Static data of loaded objects stay roots, as they do in libgc, unless GC_no_dls is set. */
void GC_clear_roots(void) {
  config_follow_variables();
  midden_locked_call(roots_clear_locked, NULL);
}

static void *roots_exclude_locked(void *argument) {
  struct roots_range *range = argument;
  midden_root_remove(range->start, range->end);
  range->next = roots_excluded;
  roots_excluded = range;
  return NULL;
}

void GC_exclude_static_roots(void *start, void *end) {
  GC_word align = sizeof(void *) - 1, first = (GC_word)start & ~align, last = ((GC_word)end + align) & ~align;
  if (start == end || first >= last) return;
  struct roots_range *range = roots_new_range((void *)first, (void *)last);
  if (midden_root_exclude(range->start, range->end) < 0) report_fatal("libgc: no memory for another excluded range");
  midden_locked_call(roots_exclude_locked, range);
}

/* midden forgets no exclusion: libgc has this for its own tests. */
void GC_clear_exclusion_table(void) {}

/* ---- static data ---- */

static GC_has_static_roots_func roots_has_static; /* atomic */

static bool roots_filter_module(const char *name, void *start, size_t bytes) {
  GC_has_static_roots_func function = __atomic_load_n(&roots_has_static, __ATOMIC_ACQUIRE);
  return !function || function(name, start, bytes) != 0;
}

/* Setting the filter, again too, makes midden ask about the objects that it knows already. */
void GC_register_has_static_roots_callback(GC_has_static_roots_func function) {
  __atomic_store_n(&roots_has_static, function, __ATOMIC_RELEASE);
  midden_set_module_filter(function ? roots_filter_module : NULL);
}

static bool roots_segment_holds(const struct dl_phdr_info *object, const ElfW(Phdr) * segment, GC_word address) {
  GC_word start = object->dlpi_addr + segment->p_vaddr;
  return segment->p_type == PT_LOAD && (segment->p_flags & PF_W) && address - start < segment->p_memsz;
}

static int roots_object_holds(struct dl_phdr_info *object, size_t bytes, void *address) {
  (void)bytes;
  for (int i = 0; i < object->dlpi_phnum; i++)
    if (roots_segment_holds(object, &object->dlpi_phdr[i], (GC_word)address)) return 1;
  return 0;
}

int GC_is_tmp_root(void *address) { return dl_iterate_phdr(roots_object_holds, address); }
