/* The heap profile as a file, in the text form that pprof and its predecessor, the perl script of that name, read:
 *
 *     heap profile:   2:  96 [   3: 144] @ heap_v2/524288
 *        2:  96 [   3: 144] @ 0x401a2b 0x401c00
 *     ...
 *     MAPPED_LIBRARIES:
 *     00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/program
 *     ...
 *
 * A line has the objects in use, their bytes, in brackets those ever allocated, and the call stack.  These are the samples
 * themselves: the reader makes estimates of them, from the distance behind heap_v2 and the mean size of a line's objects,
 * which is exact here since a bucket has objects of one size.  The first line has the sums. */
#ifndef MIDDEN_OBSERVE_PROFILE_FILE_H
#define MIDDEN_OBSERVE_PROFILE_FILE_H

#include "mutator/mutator.h"

/* 0; -EINVAL where there was no profile; -errno. */
int profile_file_write(struct mutator *self, const char *path);

#endif
