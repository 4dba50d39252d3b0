/* Roots: ranges that the program adds, and which static data count.
 *
 * Ranges are rounded inwards to whole words here, so that midden is given none that ends before it starts. */
#define _GNU_SOURCE
#include <link.h>

#include "shim.h"

static bool roots_round(void **start, void **end) {
  GC_word align = sizeof(void *) - 1;
  *start = (void *)(((GC_word)*start + align) & ~align);
  *end = (void *)((GC_word)*end & ~align);
  return (GC_word)*start < (GC_word)*end;
}

void GC_add_roots(void *start, void *end) {
  if (!roots_round(&start, &end)) return;
  if (midden_root_add(start, end) < 0) report_fatal("libgc: no memory for another root range");
}

void GC_remove_roots(void *start, void *end) {
  if (roots_round(&start, &end)) midden_root_remove(start, end);
}

/* Static data of loaded objects stay roots, as they do in libgc, unless GC_no_dls is set. */
void GC_clear_roots(void) {
  config_follow_variables();
  midden_root_clear();
}

void GC_exclude_static_roots(void *start, void *end) {
  if (!roots_round(&start, &end)) return;
  if (midden_root_exclude(start, end) < 0) report_fatal("libgc: no memory for another excluded range");
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
