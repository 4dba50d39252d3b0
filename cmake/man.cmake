# The man pages, and an alias for each further name that a page documents.
#
# A page is named after the first of the names in its NAME section; the others become one-line files that refer to it, made
# at configuration, so that `man midden_thread_detach` finds midden_thread_attach.3.

set(MAN_ALIAS_FOLDER "${PROJECT_BINARY_DIR}/man")
file(REMOVE_RECURSE "${MAN_ALIAS_FOLDER}")

function(midden_man_aliases page section)
  get_filename_component(own "${page}" NAME_WE)
  file(READ "${page}" text)
  if(NOT text MATCHES "\n\\.SH NAME\n([^\n]*(\n[^.\n][^\n]*)*)\n")
    message(FATAL_ERROR "${page}: no NAME section")
  endif()
  string(REGEX REPLACE "\\\\-.*" "" names "${CMAKE_MATCH_1}")
  string(REGEX MATCHALL "[a-z0-9_]+" names "${names}")
  foreach(name IN LISTS names)
    if(NOT name STREQUAL own)
      file(WRITE "${MAN_ALIAS_FOLDER}/man${section}/${name}.${section}" ".so man${section}/${own}.${section}\n")
    endif()
  endforeach()
endfunction()

foreach(section 1 3 7)
  file(GLOB pages CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/man/*.${section}")
  foreach(page IN LISTS pages)
    midden_man_aliases("${page}" ${section})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${page}")
  endforeach()
  file(GLOB aliases "${MAN_ALIAS_FOLDER}/man${section}/*.${section}")
  install(FILES ${pages} ${aliases} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
