{{ standing_versions(tick("high")) }}
