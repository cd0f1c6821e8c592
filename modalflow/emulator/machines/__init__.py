"""The emulator's behaviour: sandboxes as processes and folders of this machine.

Flows in: sandboxes that the control plane has checked. Flows out: their processes, output, mounts and ends; nothing here knows
the wire. ``sandboxes`` is the module to begin with. By subject:

- a sandbox's life: ``sandboxes``, ``scheduling``, ``starting``, ``furnishing``, ``probes``, ``activity``, ``results``; the
  objects are in ``workloads`` and ``machine``; beside the main process ``execs`` and ``sidecars``; ``app_lives`` ends Apps
- how it is run: ``containers`` is the seam, ``isolation`` chooses. By processes: ``process_container``. By an OCI runtime:
  ``oci_launcher``, ``oci_container``, ``oci_config``, ``syscalls``, ``host_view``, ``covers``, ``cgroups``
- its processes: ``processes`` and, across a socket, ``spawner``; ``output``, ``terminals``, ``environment``, ``identity``
- its network: ``networks`` is the seam, ``network_choice`` chooses. ``network_namespaces``, ``network_links``,
  ``network_requests``, ``network_firewall``, ``network_cleanup``, ``name_relay``, ``server_name_gate``; ways in: ``ingress``,
  ``tunnels``, ``connect_proxy``, ``connect_tokens``, ``certificates``, ``streams``
- its files: ``mounts`` (Volumes), ``buckets``, ``mounted_files``, ``sync_requests``; whatever a sandbox may change is reached by
  ``untrusted_folder``
- images: ``image_builds``, ``build_steps``, ``build_context``, ``build_runner``, ``build_log``; ``layer_store``, ``layer_view``,
  ``file_layers``; images of what runs, and mounted into it: ``snapshots``, ``archives``, ``oci_mounts``, ``private_mounts``
- programs of their own, which import nothing of ours: ``spawner``, ``network_watch``, ``network_cleanup``, ``mount_script``; for
  inside a container (``container_tools``) the other ``*_script`` and ``uv_stand_in``
- ``arrivals``: waiting for items of Queues. ``leftovers``: what killed emulators left
"""
