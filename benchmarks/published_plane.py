"""The control plane without processes, with what modalflow 0.3.1 asks of it too: a deployed Function and a Dict.

Every call of the Function is accepted and none ever writes its state into the Dict, so all of its tasks run for ever. Run by
``published`` as a process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from benchmarks.control_plane import ControlPlane, raise_descriptor_limit, serve


class PublishedPlane(ControlPlane):
    """Answers both executors."""

    async def FunctionGet(self, _: Any) -> Any:
        """One Function."""
        metadata = self.pb.FunctionHandleMetadata(
            function_name="execute_modal_task", function_type=self.pb.Function.FUNCTION_TYPE_FUNCTION, max_object_size_bytes=2**21
        )
        return self.pb.FunctionGetResponse(function_id="fu-1", handle_metadata=metadata)

    async def FunctionMap(self, request: Any) -> Any:
        """Accept the call with its input."""
        self.number += 1
        inputs = [
            self.pb.FunctionPutInputsResponseItem(idx=item.idx, input_id=f"in-{self.number}") for item in request.pipelined_inputs
        ]
        return self.pb.FunctionMapResponse(function_call_id=f"fc-{self.number}", pipelined_inputs=inputs)

    async def DictGetOrCreate(self, request: Any) -> Any:
        """One Dict a name."""
        metadata = self.pb.DictMetadata(name=request.deployment_name)
        return self.pb.DictGetOrCreateResponse(dict_id=f"di-{request.deployment_name}", metadata=metadata)

    async def DictGet(self, _: Any) -> Any:
        """Nothing is in it."""
        return self.pb.DictGetResponse(found=False)


if __name__ == "__main__":
    raise_descriptor_limit()
    asyncio.run(serve(json.loads(sys.argv[1]), PublishedPlane))
