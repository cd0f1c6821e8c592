"""The code of DAG bundles on a Modal Volume: a copy for each content, brought there before the task that needs it.

``manifest`` says what a copy is, ``shelf`` where it lies and when it may go: both pure. ``tree`` finds the files of a folder,
``reading`` reads and hashes those that changed, ``copies`` shares one look and one upload among the launches that wait,
``tidying`` removes what no task can use any more, ``desk`` is what launches ask. What speaks to Modal is a ``CodeVolume``
(``modal_gateway.code_volume``).
"""
