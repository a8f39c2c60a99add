# Defines ferrule::ferrule: the include folder of the installation that this file is in.
if(NOT TARGET ferrule::ferrule)
  get_filename_component(_ferrule_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
  add_library(ferrule::ferrule INTERFACE IMPORTED)
  set_target_properties(ferrule::ferrule PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_ferrule_prefix}/include")
  unset(_ferrule_prefix)
endif()
