/** The OpenAPI document of an HTTP route. It lies beside the configuration: no draft has it. */
import { t } from "@lingui/core/macro";
import { FileInput } from "@mantine/core";
import { IconFileCode } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, unwrap } from "@/api/client";
import { FormDialog } from "@/ui/FormDialog";

const upload = async (route: string, file: File) =>
  unwrap(
    api.PUT("/api/v1/service-openapi/{ref}", {
      params: { path: { ref: route } },
      body: (await file.text()) as unknown as Record<string, never>,
      bodySerializer: (text: unknown) => String(text),
      headers: { "Content-Type": file.name.endsWith(".json") ? "application/json" : "application/yaml" },
    }),
  );

export function OpenApiForm({ route, close }: { route: string; close: () => void }) {
  const [file, setFile] = useState<File | null>(null);
  const queries = useQueryClient();
  return (
    <FormDialog
      title={t`OpenAPI document of ${route}`}
      deed={t`Put it into the catalogue`}
      complete={file !== null}
      act={async () => file && upload(route, file)}
      done={async () => {
        await queries.invalidateQueries({ queryKey: ["catalogue"] });
        close();
      }}
      close={close}
    >
      <FileInput
        label={t`OpenAPI document`}
        description={t`JSON or YAML, OpenAPI 3, up to 1 MiB; it is shown in the catalogue to be tried out`}
        placeholder={t`Choose a file`}
        accept=".json,.yaml,.yml"
        required
        clearable
        value={file}
        onChange={setFile}
        leftSection={<IconFileCode size={16} />}
      />
    </FormDialog>
  );
}
