/* The version of the libgc interface that these headers and the library stand for.  midden's own version is
 * midden_version(). */
#ifndef GC_VERSION_H
#define GC_VERSION_H

#define GC_VERSION_MAJOR 8
#define GC_VERSION_MINOR 2
#define GC_VERSION_MICRO 2

#endif
